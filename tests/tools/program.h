// Runs the `sluice` program as a user does, and tells what came of it.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace sluice::tools::testing {

struct ProgramInput {
  std::vector<std::string> arguments;
  std::map<std::string, std::string> environment = {};  // on top of this process's, which is rid of settings
  std::string standard_input = {};
  std::string output_to = {};  // a file to connect stdout to; empty: it is collected
};

struct ProgramResult {
  int exit_code = -1;  // 128 + number if a signal ended it
  std::string output;  // of stdout
  std::string errors;  // of stderr
};

/// Runs the program to its end.
ProgramResult run_program(const ProgramInput& input);
ProgramResult run_program(std::vector<std::string> arguments);

/// A running program, to send signals to. Killed when dropped before finish().
class RunningProgram {
 public:
  explicit RunningProgram(const ProgramInput& input);
  ~RunningProgram();
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;

  /// Returns once `bytes` bytes have come on stdout; false if it ended before.
  bool wait_for_output(std::size_t bytes);
  void signal(int number);
  /// Waits for its end.
  ProgramResult finish();

 private:
  /// Reads what is there on stdout and stderr, waiting for something; false once both have ended.
  bool pump();

  pid_t process_ = -1;
  int output_ = -1, errors_ = -1;  // reading ends
  ProgramResult result_;
};

/// Lines of a text; every line has to end.
std::vector<std::string> lines(const std::string& text);

}  // namespace sluice::tools::testing
