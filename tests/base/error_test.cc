#include "base/error.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace sluice {
namespace {

TEST(Error, FailFormatsItsMessage) {
  try {
    fail("{}: found {} bytes, expected {}", "model.safetensors", 12, 34);
    FAIL() << "fail() returned";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "model.safetensors: found 12 bytes, expected 34");
  }
}

TEST(Error, FailUsageFormatsItsMessage) {
  try {
    fail_usage("{}: must be at least {}", "--cache-slots", 8);
    FAIL() << "fail_usage() returned";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "--cache-slots: must be at least 8");
  }
}

// The program maps the two to different exit codes, so neither may be caught as the other.
TEST(Error, TheTwoKindsAreDistinct) {
  EXPECT_THROW(fail("x"), std::runtime_error);
  EXPECT_THROW(fail_usage("x"), std::runtime_error);
  static_assert(!std::is_base_of_v<Error, UsageError> && !std::is_base_of_v<UsageError, Error>);
}

}  // namespace
}  // namespace sluice
