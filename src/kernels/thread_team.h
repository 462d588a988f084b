// The threads that compute. One call to run() is one dispatch: a parallel region over the whole team.
#pragma once

#include <cstdint>
#include <memory>
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
/// (v1 and v2), at least 1.
int available_cpus();

/// A fixed team: the calling thread is worker 0, the others wait between dispatches: they spin for a short window
/// (a dispatch follows a dispatch within microseconds), then park in the kernel, so that nothing spins while the
/// caller waits for the disk. run() may be called by one thread at a time; it never throws, and bodies must not.
class ThreadTeam {
 public:
  /// `threads` >= 1, the caller included.
  explicit ThreadTeam(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const;

  /// Runs body(worker) once on every worker, 0 <= worker < size(), and returns when all are done.
  void run(FunctionRef<void(int worker)> body);

  /// Inside run(): returns when every worker of the team has called it. Makes what was written before visible after.
  void barrier();

  /// Splits [0, count) into chunks of about `grain` and runs body(begin, end) over them on the whole team; chunks are
  /// claimed as workers become free. Runs on the caller alone when one chunk is enough. The split must not change
  /// results: a chunk boundary may fall anywhere.
  void parallel_for(std::int64_t count, std::int64_t grain, FunctionRef<void(std::int64_t begin, std::int64_t end)> body);

  /// Parallel regions run so far, for benchmarks.
  std::uint64_t dispatches() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice::kernels
