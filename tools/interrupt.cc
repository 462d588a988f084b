#include "interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstddef>

namespace sluice::tools {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM};

// A signal handler can reach nothing but globals.
std::atomic<bool> interrupted{false};
std::atomic<int> signal_number{SIGINT};
std::array<struct sigaction, kSignals.size()> former;

static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free,
              "signal handlers may only touch lock-free atomics");

void on_signal(int number) {
  if (interrupted.load()) _exit(128 + number);
  signal_number.store(number);
  interrupted.store(true);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  interrupted.store(false);
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // reads in flight and output are not to fail with EINTR
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &former[i]);
}

InterruptGuard::~InterruptGuard() {
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &former[i], nullptr);
}

const std::atomic<bool>& InterruptGuard::requested() const { return interrupted; }

int InterruptGuard::exit_code() const { return 128 + signal_number.load(); }

}  // namespace sluice::tools
