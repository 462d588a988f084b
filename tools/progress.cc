#include "progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/units.h"

namespace sluice::tools {
namespace {

constexpr double kRedrawSeconds = 0.1;     // ten times a second is smooth enough and costs nothing
constexpr double kFirstLineSeconds = 5.0;  // a log file hears of a load only when a reader might wonder
constexpr double kLastLineSeconds = 1.0;
constexpr int kBarCells = 30;
constexpr std::string_view kErase = "\r\x1b[K";  // to the start of the line, and clear it

}  // namespace

ProgressStyle progress_style(bool quiet, bool is_terminal, std::string_view term) {
  if (quiet) return ProgressStyle::none;
  return is_terminal && !term.empty() && term != "dumb" ? ProgressStyle::bar : ProgressStyle::lines;
}

Progress::Progress(std::string_view what, ProgressStyle style, Output output, Clock clock, ProgressUnit unit)
    : what_(what),
      style_(style),
      output_(std::move(output)),
      clock_(std::move(clock)),
      unit_(unit),
      start_(clock_()),
      drawn_at_(start_) {}

Progress::~Progress() { erase(); }

void Progress::update(std::uint64_t done, std::uint64_t total) {
  done_ = done;
  total_ = total;
  if (style_ == ProgressStyle::none) return;
  const double now = clock_();
  if (style_ == ProgressStyle::bar) {
    if (now - drawn_at_ >= kRedrawSeconds) draw(now);
  } else if (!shown_ && now - start_ >= kFirstLineSeconds) {
    output_(fmt::format("{} {}\n", what_,
                        unit_ == ProgressUnit::bytes ? format_bytes(total_) : fmt::format("{} tokens", total_)));
    shown_ = true;
  }
}

void Progress::draw(double now) {
  const double part = total_ == 0 ? 0.0 : std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const auto filled = static_cast<std::size_t>(part * kBarCells);
  output_(fmt::format("{}{} [{}{}] {}", kErase, what_, std::string(filled, '#'), std::string(kBarCells - filled, '.'),
                      counts(now)));
  drawn_at_ = now;
  shown_ = true;
}

std::string Progress::counts(double now) const {
  const double rate = static_cast<double>(done_) / (now - start_);
  if (unit_ == ProgressUnit::bytes) {
    return fmt::format("{} of {}  {}", format_bytes(done_), format_bytes(total_), format_rate(rate));
  }
  const double percent = total_ == 0 ? 0.0 : 100.0 * static_cast<double>(done_) / static_cast<double>(total_);
  std::string text = fmt::format("{} of {} tokens, {:.0f} %, {:.1f} tok/s", done_, total_, percent, rate);
  if (done_ > 0) text += fmt::format(", {:.0f} s left", static_cast<double>(total_ - done_) / rate);
  return text;
}

void Progress::erase() {
  if (style_ == ProgressStyle::bar && shown_) output_(kErase);
  shown_ = false;
}

void Progress::finish() {
  erase();
  const double seconds = clock_() - start_;
  if (style_ == ProgressStyle::lines && unit_ == ProgressUnit::bytes && seconds >= kLastLineSeconds) {
    output_(fmt::format("{} took {:.1f} s: {} at {}\n", what_, seconds, format_bytes(done_),
                        format_rate(static_cast<double>(done_) / seconds)));
  }
}

Progress progress_on_stderr(std::string_view what, bool quiet, const Environment& environment, ProgressUnit unit) {
  const auto write = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
  };
  const ProgressStyle style = progress_style(quiet, isatty(STDERR_FILENO) == 1, get(environment, "TERM"));
  return Progress(what, style, write, steady_seconds, unit);
}

}  // namespace sluice::tools
