// The threads that compute. One call to run() is one dispatch: a parallel region over the whole team.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

namespace sluice::kernels {

/// A non-owning reference to a callable, so that a dispatch allocates nothing.
template <typename Signature>
class FunctionRef;

template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
 public:
  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>)
      FunctionRef(F&& function)  // NOLINT(google-explicit-constructor): passed like std::function
      : object_(const_cast<void*>(static_cast<const void*>(&function))), call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}
  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

/// How many threads this process may usefully run: CPUs in the affinity mask, limited by the cgroup CPU quota
/// (v1 and v2; a fraction of a CPU is not worth a thread that would be throttled), at least 1.
int available_cpus();

/// A fixed team: the calling thread is worker 0, the others wait between dispatches: they spin for a short window
/// (a dispatch follows a dispatch within microseconds), then park in the kernel, so that nothing spins while the
/// caller waits for the disk. A team larger than available_cpus() parks at once.
///
/// Regions may be started by one thread at a time and not from inside a body. They allocate nothing.
/// An exception that leaves a body ends the program (std::terminate): half of a result is of no use to anyone.
class ThreadTeam {
 public:
  /// `threads` >= 1, the caller included.
  explicit ThreadTeam(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const;

  /// Runs body(worker) once on every worker, 0 <= worker < size(), and returns when all are done.
  void run(FunctionRef<void(int worker)> body) noexcept;

  /// Splits [0, count) into chunks of `grain`, towards the end down to a quarter of it, and runs body(begin, end) over
  /// them on the whole team; chunks are claimed as workers become free, and a worker that another process keeps off its
  /// CPU is not waited for. Runs on the caller alone when one chunk is enough. The split must not change results: a
  /// boundary may fall anywhere.
  void parallel_for(std::int64_t count, std::int64_t grain,
                    FunctionRef<void(std::int64_t begin, std::int64_t end)> body) noexcept;

  /// One part of a region: body(begin, end) over [0, count) in chunks as above. Refers to its body.
  struct Phase {
    std::int64_t count;
    std::int64_t grain;
    FunctionRef<void(std::int64_t begin, std::int64_t end)> body;
  };
  static constexpr std::size_t kMaxPhases = 8;

  /// parallel_for over one phase after another in a single dispatch: no chunk of a phase begins before every chunk of
  /// the phases before it has ended, and it sees what they wrote. It waits for chunks and not for workers, so it
  /// needs nobody who has not come. At most kMaxPhases.
  void parallel_phases(std::span<const Phase> phases) noexcept;

  /// Parallel regions run so far, for benchmarks; what ran on the caller alone is none.
  std::uint64_t dispatches() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::kernels
