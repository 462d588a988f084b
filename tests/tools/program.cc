#include "program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>
#include <utility>

namespace sluice::tools::testing {
namespace {

/// This process's environment without anything that changes what the program does.
std::vector<std::string> child_environment(const std::map<std::string, std::string>& added) {
  std::vector<std::string> entries;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    bool setting = false;
    for (const std::string_view prefix : {"SLUICE_", "MLX_", "SWIFTLM_", "HF_", "XDG_", "TERM="}) {
      setting = setting || text.starts_with(prefix);
    }
    if (!setting) entries.emplace_back(text);
  }
  // Rates are kept here and not in the user's own cache.
  if (!added.contains("XDG_CACHE_HOME")) entries.push_back("XDG_CACHE_HOME=" + ::testing::TempDir() + "sluice_cache");
  for (const auto& [name, value] : added) entries.push_back(name + "=" + value);
  return entries;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

/// Appends what can be read to `text`; false at the end of the stream.
bool read_some(int descriptor, std::string& text) {
  std::array<char, 4096> buffer{};
  const ssize_t got = read(descriptor, buffer.data(), buffer.size());
  if (got > 0) text.append(buffer.data(), static_cast<std::size_t>(got));
  return got > 0 || (got < 0 && errno == EINTR);
}

}  // namespace

RunningProgram::RunningProgram(const ProgramInput& input) {
  // A file instead of a pipe: no deadlock, however much of it the program reads.
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(std::tmpfile(), std::fclose);
  std::fwrite(input.standard_input.data(), 1, input.standard_input.size(), in.get());
  std::rewind(in.get());

  std::vector<std::string> arguments{SLUICE_PROGRAM};
  arguments.insert(arguments.end(), input.arguments.begin(), input.arguments.end());
  std::vector<std::string> environment = child_environment(input.environment);
  const std::vector<char*> argument_pointers = pointers(arguments);
  const std::vector<char*> environment_pointers = pointers(environment);

  std::array<int, 2> out{}, err{};
  if (pipe2(out.data(), O_CLOEXEC) != 0 || pipe2(err.data(), O_CLOEXEC) != 0) return;
  process_ = fork();
  if (process_ == 0) {
    dup2(fileno(in.get()), STDIN_FILENO);
    dup2(input.output_to.empty() ? out[1] : open(input.output_to.c_str(), O_WRONLY), STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    execve(SLUICE_PROGRAM, argument_pointers.data(), environment_pointers.data());
    _exit(127);
  }
  close(out[1]);
  close(err[1]);
  output_ = out[0];
  errors_ = err[0];
}

RunningProgram::~RunningProgram() {
  if (process_ > 0) {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }
  for (const int descriptor : {output_, errors_}) {
    if (descriptor >= 0) close(descriptor);
  }
}

bool RunningProgram::pump() {
  std::array<pollfd, 2> watched{{{output_, POLLIN, 0}, {errors_, POLLIN, 0}}};
  if (output_ < 0 && errors_ < 0) return false;
  poll(watched.data(), watched.size(), -1);  // ignores negative descriptors
  const auto drain = [](const pollfd& ready, int& descriptor, std::string& text) {
    if (ready.revents == 0 || read_some(descriptor, text)) return;
    close(descriptor);
    descriptor = -1;
  };
  drain(watched[0], output_, result_.output);
  drain(watched[1], errors_, result_.errors);
  return true;
}

bool RunningProgram::wait_for_output(std::size_t bytes) {
  while (result_.output.size() < bytes) {
    if (!pump()) return false;
  }
  return true;
}

void RunningProgram::signal(int number) { kill(process_, number); }

ProgramResult RunningProgram::finish() {
  while (pump()) {
  }
  int status = 0;
  waitpid(std::exchange(process_, -1), &status, 0);
  result_.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return result_;
}

ProgramResult run_program(const ProgramInput& input) { return RunningProgram(input).finish(); }

ProgramResult run_program(std::vector<std::string> arguments) {
  return run_program(ProgramInput{std::move(arguments)});
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> result;
  std::size_t begin = 0;
  for (auto end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    result.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  EXPECT_EQ(begin, text.size()) << "the last line does not end: " << text;
  return result;
}

}  // namespace sluice::tools::testing
