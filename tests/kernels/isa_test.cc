#include "kernels/isa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/vector_support.h"

namespace sluice::kernels {
namespace {

TEST(Isa, TheScalarReferenceComesFirstAndRunsEverywhere) {
  EXPECT_EQ(all_isas()[0].name, "scalar");
  EXPECT_TRUE(all_isas()[0].supported());
}

TEST(Isa, TheFastestSupportedOneIsChosenUnlessOneIsForced) {
  EXPECT_EQ(select_isa("").name, supported_isas().back()->name);
  for (const Isa* isa : supported_isas()) EXPECT_EQ(&select_isa(isa->name), isa);
}

TEST(Isa, AnUnknownNameIsAUsageErrorThatListsTheKnownOnes) {
  try {
    select_isa("avx9");
    FAIL() << "accepted";
  } catch (const UsageError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("SLUICE_ISA"));
    EXPECT_THAT(error.what(), testing::HasSubstr("avx9"));
    for (const Isa& isa : all_isas()) EXPECT_THAT(error.what(), testing::HasSubstr(std::string(isa.name)));
  }
}

}  // namespace
}  // namespace sluice::kernels
