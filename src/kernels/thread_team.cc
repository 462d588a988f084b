#include "kernels/thread_team.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <chrono>
#include <climits>
#include <thread>
#include <vector>

namespace sluice::kernels {
namespace {

/// How long a waiting thread spins before it parks. Waking a parked thread costs tens of microseconds, and within a
/// token one dispatch follows another within fewer, so a window of this length keeps the team awake through a layer
/// and asleep while the caller waits for the disk.
constexpr std::chrono::microseconds kSpinWindow{50};

/// Pauses between two looks at the clock. One pause takes 20 to 60 ns and a look at the clock about as long.
constexpr int kPausesPerClock = 32;

/// Keeps words that different threads write on different cache lines; 128 because lines are fetched in pairs.
constexpr std::size_t kLine = 128;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

/// A number that threads wait on: they spin first, then sleep in the kernel.
///
/// A waiter announces itself before it looks at the value for the last time, and a writer changes the value before
/// it looks for waiters, both sequentially consistent: one of the two sees the other, so no wake-up is lost and none
/// is paid for when nobody sleeps.
class WaitWord {
 public:
  std::uint32_t load() const { return value_.load(std::memory_order_acquire); }

  /// For a moment at which no thread can be waiting.
  void reset() { value_.store(0, std::memory_order_relaxed); }

  void increment() {
    value_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      syscall(SYS_futex, &value_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
    }
  }

  /// Returns when the value is no longer `old`.
  void wait_while(std::uint32_t old, bool spin) {
    if (spin && spin_while(old)) return;
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (value_.load(std::memory_order_seq_cst) == old) {
      syscall(SYS_futex, &value_, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);  // may return early: hence the loop
    }
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }

 private:
  bool spin_while(std::uint32_t old) const {
    const auto deadline = std::chrono::steady_clock::now() + kSpinWindow;
    do {
      for (int i = 0; i < kPausesPerClock; ++i) {
        if (load() != old) return true;
        pause_cpu();
      }
    } while (std::chrono::steady_clock::now() < deadline);
    return false;
  }

  std::atomic<std::uint32_t> value_{0};
  std::atomic<std::uint32_t> sleepers_{0};
  static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t), "the kernel reads the value itself");
};

/// The door of the current region: its epoch, whether it is closed, and how many workers went in. A worker that
/// comes late to a closed region does not run it, so the caller waits only for workers that are really at work,
/// never for one that another process keeps off its CPU.
class Door {
 public:
  void open(std::uint32_t epoch) { word_.store(std::uint64_t{epoch} << 32, std::memory_order_release); }

  /// Whether the calling worker is in: the region `epoch` is still open.
  bool enter(std::uint32_t epoch) {
    std::uint64_t word = word_.load(std::memory_order_relaxed);
    while (word >> 31 == std::uint64_t{epoch} << 1) {
      if (word_.compare_exchange_weak(word, word + 1, std::memory_order_acquire, std::memory_order_relaxed))
        return true;
    }
    return false;
  }

  /// Lets nobody in any more and returns how many are in.
  std::uint32_t close() {
    return static_cast<std::uint32_t>(word_.fetch_or(kClosed, std::memory_order_relaxed) & (kClosed - 1));
  }

 private:
  static constexpr std::uint64_t kClosed = std::uint64_t{1} << 31;
  std::atomic<std::uint64_t> word_{kClosed};
};

/// How far a region is in one of its phases.
class Progress {
 public:
  /// Computes chunks for as long as there are any that nobody has claimed, as one of `workers`.
  void take_part(const ThreadTeam::Phase& phase, int workers) {
    std::int64_t begin = next_.load(std::memory_order_relaxed);
    while (begin < phase.count) {
      const std::int64_t end = begin + chunk(phase, phase.count - begin, workers);
      if (!next_.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
      phase.body(begin, end);
      if (done_.fetch_add(end - begin, std::memory_order_acq_rel) + end - begin == phase.count) complete_.increment();
      begin = next_.load(std::memory_order_relaxed);
    }
  }

  /// Returns when all chunks have ended.
  void wait(const ThreadTeam::Phase& phase, bool spin) {
    if (phase.count > 0) complete_.wait_while(0, spin);
  }

 private:
  /// Towards the end chunks are smaller, so that the workers end together: half of a fair share of what is left.
  static std::int64_t chunk(const ThreadTeam::Phase& phase, std::int64_t left, int workers) {
    const std::int64_t smallest = std::max<std::int64_t>(1, phase.grain / 4);
    return std::min(left, std::clamp(left / (2 * workers), smallest, phase.grain));
  }

  alignas(kLine) std::atomic<std::int64_t> next_{0};  // first index that nobody has claimed
  alignas(kLine) std::atomic<std::int64_t> done_{0};  // indices computed
  WaitWord complete_;                                 // 1 when all are
};

}  // namespace

struct ThreadTeam::State {
  explicit State(int team_size) : size(team_size), spin(team_size > 1 && team_size <= available_cpus()) {}

  void work(int worker);
  void dispatch(FunctionRef<void(int)> region, bool everyone);

  const int size;
  const bool spin;  // not when threads share a CPU: a spinning one would keep off the one it waits for
  std::uint64_t dispatches = 0;
  std::vector<std::thread> threads;

  // Written by the caller before it opens the door.
  const FunctionRef<void(int)>* body = nullptr;  // null: the team is being taken down

  alignas(kLine) WaitWord epoch;  // counts regions; workers wait for the next one here
  alignas(kLine) Door door;
  alignas(kLine) WaitWord finished;  // workers that are through with the current region
};

void ThreadTeam::State::work(int worker) {
  for (std::uint32_t seen = 0;;) {
    epoch.wait_while(seen, spin);
    seen = epoch.load();
    if (!door.enter(seen)) continue;
    const auto* region = body;
    if (region != nullptr) (*region)(worker);
    finished.increment();
    if (region == nullptr) return;
  }
}

void ThreadTeam::State::dispatch(FunctionRef<void(int)> region, bool everyone) {
  ++dispatches;
  if (size == 1) return region(0);
  body = &region;
  finished.reset();
  door.open(epoch.load() + 1);
  epoch.increment();
  region(0);
  const std::uint32_t expected = everyone ? static_cast<std::uint32_t>(size - 1) : door.close();
  for (std::uint32_t done = finished.load(); done != expected; done = finished.load()) finished.wait_while(done, spin);
}

ThreadTeam::ThreadTeam(int threads) : state_(std::make_unique<State>(threads)) {
  assert(threads >= 1);
  for (int worker = 1; worker < threads; ++worker) {
    state_->threads.emplace_back([state = state_.get(), worker]() noexcept { state->work(worker); });
  }
}

ThreadTeam::~ThreadTeam() {
  state_->body = nullptr;
  state_->finished.reset();
  state_->door.open(state_->epoch.load() + 1);
  state_->epoch.increment();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadTeam::size() const { return state_->size; }

void ThreadTeam::run(FunctionRef<void(int)> body) noexcept { state_->dispatch(body, true); }

void ThreadTeam::parallel_for(std::int64_t count, std::int64_t grain,
                              FunctionRef<void(std::int64_t, std::int64_t)> body) noexcept {
  const Phase phase{count, grain, body};
  parallel_phases({&phase, 1});
}

void ThreadTeam::parallel_phases(std::span<const Phase> phases) noexcept {
  assert(phases.size() <= kMaxPhases);
  const auto is_one_chunk = [](const Phase& phase) { return phase.count <= phase.grain; };
  if (size() == 1 || std::all_of(phases.begin(), phases.end(), is_one_chunk)) {
    for (const Phase& phase : phases) {
      if (phase.count > 0) phase.body(0, phase.count);
    }
    return;
  }
  std::array<Progress, kMaxPhases> progress;
  const auto work = [&](int) {
    for (std::size_t i = 0; i < phases.size(); ++i) {
      progress[i].take_part(phases[i], state_->size);
      if (i + 1 < phases.size())
        progress[i].wait(phases[i], state_->spin);  // the end of the last is that of the region
    }
  };
  state_->dispatch(work, false);
}

std::uint64_t ThreadTeam::dispatches() const { return state_->dispatches; }

}  // namespace sluice::kernels
