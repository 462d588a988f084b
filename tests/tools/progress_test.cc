// Progress with a clock that only moves when it is told to.
#include "progress.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/units.h"

namespace sluice::tools {
namespace {

struct Screen {
  double now = 0;
  std::string text;
  int writes = 0;

  Progress progress(ProgressStyle style) {
    return Progress(
        "loading", style,
        [this](std::string_view written) {
          text += written;
          ++writes;
        },
        [this] { return now; });
  }
};

TEST(ProgressStyle, FollowsTheTerminal) {
  EXPECT_EQ(progress_style(false, true, "xterm"), ProgressStyle::bar);
  EXPECT_EQ(progress_style(false, true, "dumb"), ProgressStyle::lines);
  EXPECT_EQ(progress_style(false, true, ""), ProgressStyle::lines);
  EXPECT_EQ(progress_style(false, false, "xterm"), ProgressStyle::lines);
  EXPECT_EQ(progress_style(true, true, "xterm"), ProgressStyle::none);
}

TEST(Progress, BarIsRedrawnTenTimesASecondAtMost) {
  Screen screen;
  Progress progress = screen.progress(ProgressStyle::bar);
  for (int i = 1; i <= 1000; ++i) {
    screen.now = 0.001 * i;
    progress.update(static_cast<std::uint64_t>(i) * kMiB, 1000 * kMiB);
  }
  EXPECT_GE(screen.writes, 8);
  EXPECT_LE(screen.writes, 10);
}

TEST(Progress, BarShowsBytesRateAndPart) {
  Screen screen;
  Progress progress = screen.progress(ProgressStyle::bar);
  screen.now = 2;
  progress.update(400 * kMiB, 800 * kMiB);
  EXPECT_NE(screen.text.find("400 MiB of 800 MiB"), std::string::npos) << screen.text;
  EXPECT_NE(screen.text.find("200 MiB/s"), std::string::npos) << screen.text;
  EXPECT_EQ(std::count(screen.text.begin(), screen.text.end(), '#'),
            std::count(screen.text.begin(), screen.text.end(), '.'));
}

TEST(Progress, BarLeavesAnEmptyLine) {
  Screen screen;
  {
    Progress progress = screen.progress(ProgressStyle::bar);
    screen.now = 1;
    progress.update(1, 2);
    screen.text.clear();
    progress.finish();
    EXPECT_EQ(screen.text, "\r\x1b[K");
  }
  EXPECT_EQ(screen.text, "\r\x1b[K") << "erased once";
}

TEST(Progress, BarIsErasedWhenLoadingFails) {
  Screen screen;
  {
    Progress progress = screen.progress(ProgressStyle::bar);
    screen.now = 1;
    progress.update(1, 2);
    screen.text.clear();
  }
  EXPECT_EQ(screen.text, "\r\x1b[K");
}

TEST(Progress, QuickLoadSaysNothing) {
  for (const ProgressStyle style : {ProgressStyle::bar, ProgressStyle::lines}) {
    Screen screen;
    Progress progress = screen.progress(style);
    screen.now = 0.05;
    progress.update(1, 1);
    progress.finish();
    EXPECT_EQ(screen.text, "");
  }
}

TEST(Progress, LogFileGetsAFirstAndALastLineWithoutControlCharacters) {
  Screen screen;
  Progress progress = screen.progress(ProgressStyle::lines);
  for (int second = 1; second <= 10; ++second) {
    screen.now = second;
    progress.update(static_cast<std::uint64_t>(second) * 50 * kMiB, 500 * kMiB);
  }
  progress.finish();
  EXPECT_EQ(screen.text, "loading 500 MiB\nloading took 10.0 s: 500 MiB at 50.0 MiB/s\n");
}

TEST(Progress, QuietSaysNothingHoweverLongItTakes) {
  Screen screen;
  Progress progress = screen.progress(ProgressStyle::none);
  screen.now = 100;
  progress.update(1, 2);
  progress.finish();
  EXPECT_EQ(screen.writes, 0);
}

TEST(Progress, EmptyLoadDoesNotDivideByZero) {
  Screen screen;
  Progress progress = screen.progress(ProgressStyle::bar);
  screen.now = 1;
  progress.update(0, 0);
  EXPECT_NE(screen.text.find("0 B of 0 B"), std::string::npos);
}

TEST(Progress, OfTokensSaysHowLongItTakesYet) {
  Screen screen;
  Progress progress(
      "prompt", ProgressStyle::bar, [&](std::string_view written) { screen.text += written; },
      [&] { return screen.now; }, ProgressUnit::tokens);
  screen.now = 10;
  progress.update(512, 2048);
  EXPECT_NE(screen.text.find("prompt [#######"), std::string::npos) << screen.text;
  EXPECT_NE(screen.text.find("512 of 2048 tokens, 25 %, 51.2 tok/s, 30 s left"), std::string::npos) << screen.text;
  progress.finish();
  EXPECT_TRUE(screen.text.ends_with("\r\x1b[K"));
}

TEST(Progress, OfTokensLeavesOneLineInALog) {
  Screen screen;
  Progress progress(
      "prompt", ProgressStyle::lines, [&](std::string_view written) { screen.text += written; },
      [&] { return screen.now; }, ProgressUnit::tokens);
  screen.now = 6;
  progress.update(512, 2048);
  screen.now = 24;
  progress.update(2048, 2048);
  progress.finish();
  EXPECT_EQ(screen.text, "prompt 2048 tokens\n");
}

}  // namespace
}  // namespace sluice::tools
