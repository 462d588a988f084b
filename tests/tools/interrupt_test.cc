// Signals, raised by the test itself.
#include "interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace sluice::tools {
namespace {

TEST(InterruptGuard, FirstSignalIsARequest) {
  const InterruptGuard guard;
  EXPECT_FALSE(guard.requested());
  raise(SIGINT);
  EXPECT_TRUE(guard.requested());
  EXPECT_EQ(guard.exit_code(), 130);
}

TEST(InterruptGuard, EachSignalHasItsCode) {
  const InterruptGuard guard;
  raise(SIGTERM);
  EXPECT_TRUE(guard.requested());
  EXPECT_EQ(guard.exit_code(), 143);
}

TEST(InterruptGuard, StartsAfresh) {
  {
    const InterruptGuard guard;
    raise(SIGINT);
  }
  const InterruptGuard guard;
  EXPECT_FALSE(guard.requested());
}

TEST(InterruptGuardDeathTest, SecondSignalEndsTheProcess) {
  EXPECT_EXIT(
      {
        const InterruptGuard guard;
        raise(SIGINT);
        raise(SIGINT);
      },
      ::testing::ExitedWithCode(130), "");
}

TEST(InterruptGuardDeathTest, FormerHandlingComesBack) {
  EXPECT_EXIT(
      {
        { const InterruptGuard guard; }
        raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace sluice::tools
