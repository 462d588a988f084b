#include "base/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace sluice {
namespace {

TEST(ParseSize, ReadsBinaryAndDecimalUnits) {
  EXPECT_EQ(parse_size("4096", "--memory"), 4096U);
  EXPECT_EQ(parse_size("4096B", "--memory"), 4096U);
  EXPECT_EQ(parse_size("1K", "--memory"), kKiB);
  EXPECT_EQ(parse_size("200MiB", "--memory"), 200 * kMiB);
  EXPECT_EQ(parse_size("200M", "--memory"), 200 * kMiB);
  EXPECT_EQ(parse_size("6GiB", "--memory"), 6 * kGiB);
  EXPECT_EQ(parse_size("6GB", "--memory"), 6'000'000'000U);
  EXPECT_EQ(parse_size("2TB", "--memory"), 2'000'000'000'000U);
  EXPECT_EQ(parse_size("1TiB", "--memory"), 1024 * kGiB);
}

TEST(ParseSize, TakesFractionsSpacesAndAnyCase) {
  EXPECT_EQ(parse_size("1.5g", "--memory"), 3 * kGiB / 2);
  EXPECT_EQ(parse_size("12 gb", "--memory"), 12'000'000'000U);
  EXPECT_EQ(parse_size("1gIb", "--memory"), kGiB);
}

TEST(ParseSize, RefusesWhatIsNoSizeByTheNameOfTheFlag) {
  for (const std::string text :
       {"", "MiB", "lots", "-1", "0", "0.4", "6 GiBs", "6XB", "6Gi", "1e30", "nan", "inf", "0x10", "5 5"}) {
    try {
      parse_size(text, "--memory");
      FAIL() << "'" << text << "' was taken as a size";
    } catch (const UsageError& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("--memory")) << text;
      EXPECT_THAT(error.what(), testing::HasSubstr("'" + text + "'"));
    }
  }
}

TEST(FormatBytes, ShowsThreeDigits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "0.98 KiB");
  EXPECT_EQ(format_bytes(kKiB), "1.00 KiB");
  EXPECT_EQ(format_bytes(212 * kMiB), "212 MiB");
  EXPECT_EQ(format_bytes(98 * kGiB / 10), "9.80 GiB");
  EXPECT_EQ(format_bytes(25 * kMiB + kMiB / 2), "25.5 MiB");
}

TEST(FormatBytes, CarriesWhenRoundingReachesAnotherDigit) {
  EXPECT_EQ(format_bytes(10 * kMiB - 1), "10.0 MiB");
  EXPECT_EQ(format_bytes(100 * kMiB - 1), "100 MiB");
  EXPECT_EQ(format_bytes(1000 * kMiB - 1), "0.98 GiB");
}

TEST(FormatBytes, HasAUnitForTheLargestNumber) { EXPECT_EQ(format_bytes(UINT64_MAX), "16777216 TiB"); }

TEST(FormatRate, IsBytesPerSecond) {
  EXPECT_EQ(format_rate(1.42 * static_cast<double>(kGiB)), "1.42 GiB/s");
  EXPECT_EQ(format_rate(-1), "0 B/s");
}

}  // namespace
}  // namespace sluice
