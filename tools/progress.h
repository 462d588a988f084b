// How far long work has come: a bar on a terminal, a line or two in a log file, nothing when quiet.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "environment.h"

namespace sluice::tools {

enum class ProgressStyle : unsigned char {
  none,
  lines,  // for a file or a pipe: when it starts to take long, and at its end
  bar,    // for a terminal: redrawn in place, erased at the end
};

/// `bar` if standard error is a terminal that understands control sequences, unless `quiet`.
ProgressStyle progress_style(bool quiet, bool is_terminal, std::string_view term);

/// What is counted.
enum class ProgressUnit : unsigned char { bytes, tokens };

/// Shows how much is done, how much there is in all and the rate; of tokens also the percentage and the time left. Used
/// by one thread.
class Progress {
 public:
  using Clock = std::function<double()>;                 // seconds, never going back
  using Output = std::function<void(std::string_view)>;  // standard error, or a string in a test

  /// `what` is the activity, "loading".
  Progress(std::string_view what, ProgressStyle style, Output output, Clock clock,
           ProgressUnit unit = ProgressUnit::bytes);
  /// Erases a bar that is still shown, so that an error message starts on an empty line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(std::uint64_t done, std::uint64_t total);
  /// Erases the bar, or writes the closing line if a load took long enough to be worth one; what is said at the end of
  /// a run covers tokens.
  void finish();

 private:
  void draw(double now);
  std::string counts(double now) const;
  void erase();

  std::string_view what_;
  ProgressStyle style_;
  Output output_;
  Clock clock_;
  ProgressUnit unit_;
  double start_;
  double drawn_at_;     // of the last redraw
  bool shown_ = false;  // a bar is on the screen, or the first line was written
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
};

/// On standard error, in the style that fits it.
Progress progress_on_stderr(std::string_view what, bool quiet, const Environment& environment,
                            ProgressUnit unit = ProgressUnit::bytes);

}  // namespace sluice::tools
