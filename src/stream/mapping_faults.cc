#include "stream/mapping_faults.h"

#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/text.h"

namespace sluice::stream {

/// What the handler needs, made ready beforehand: it may not allocate. Entries are never freed, only used again,
/// because the handler may be walking over them in another thread.
struct WatchedMapping::Entry {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};  // 0: free
  std::string message;
  Entry* next = nullptr;
};

namespace {

using Entry = WatchedMapping::Entry;

std::atomic<Entry*> first_entry{nullptr};
std::atomic_flag reported = ATOMIC_FLAG_INIT;  // threads that compute together fault together; one line is enough
struct sigaction former_action {};

void on_fault(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (const Entry* entry = first_entry.load(); entry != nullptr; entry = entry->next) {
    if (address < entry->begin.load() || address >= entry->end.load()) continue;
    while (reported.test_and_set()) pause();  // until the thread that came first ends the process
    // Nothing is left to do if it cannot be written.
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, entry->message.data(), entry->message.size());
    _exit(1);
  }
  sigaction(SIGBUS, &former_action, nullptr);  // the access is made again, and the signal comes again
}

void install_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &former_action);
}

std::mutex entries_mutex;  // for changes; the handler only reads

Entry* free_entry() {
  for (Entry* entry = first_entry.load(); entry != nullptr; entry = entry->next) {
    if (entry->end.load() == 0) return entry;
  }
  auto* entry = new Entry;
  entry->next = first_entry.load();
  first_entry.store(entry);
  return entry;
}

}  // namespace

WatchedMapping::WatchedMapping(const std::byte* begin, std::size_t bytes, const std::filesystem::path& path) {
  static std::once_flag installed;
  std::call_once(installed, install_handler);
  const std::lock_guard lock(entries_mutex);
  entry_ = free_entry();
  entry_->message = fmt::format(
      "sluice: {}: cannot be read where it is mapped (--io mmap): truncated while running, or the device failed\n",
      printable(path.string(), path.string().size()));
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  entry_->begin.store(address);
  entry_->end.store(address + bytes);
}

WatchedMapping::~WatchedMapping() {
  const std::lock_guard lock(entries_mutex);
  entry_->end.store(0);
}

}  // namespace sluice::stream
