// What one parallel region costs: the thread team against oneTBB's static partitioner in an arena of the same size,
// back to back and after a pause in which the workers have parked, as they do while the caller waits for the disk.
#include <benchmark/benchmark.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>
#include <tbb/task_arena.h>

#include <chrono>
#include <thread>

#include "kernels/thread_team.h"

namespace sluice::kernels {
namespace {

/// Work of one worker: a chain of dependent multiplications, about 1 ns each.
void work(std::int64_t steps) {
  float x = 1.0F;
  for (std::int64_t i = 0; i < steps; ++i) benchmark::DoNotOptimize(x *= 1.0001F);
}

struct Team {
  explicit Team(int threads) : team(threads) {}
  void run(std::int64_t steps) {
    team.run([=](int) { work(steps); });
  }
  ThreadTeam team;
};

/// As Team, but late workers are not waited for; one chunk per thread.
struct TeamChunks {
  explicit TeamChunks(int threads) : team(threads) {}
  void run(std::int64_t steps) {
    team.parallel_for(team.size(), 1, [=](std::int64_t begin, std::int64_t end) { work((end - begin) * steps); });
  }
  ThreadTeam team;
};

/// Two phases of half the work each in one region, as the fused expert kernel has them.
struct TeamPhases {
  explicit TeamPhases(int threads) : team(threads) {}
  void run(std::int64_t steps) {
    const auto half = [=](std::int64_t begin, std::int64_t end) { work((end - begin) * steps / 2); };
    const ThreadTeam::Phase phases[] = {{team.size(), 1, half}, {team.size(), 1, half}};
    team.parallel_phases(phases);
  }
  ThreadTeam team;
};

struct Tbb {
  explicit Tbb(int threads) : arena(threads), size(threads) {}
  void run(std::int64_t steps) {
    arena.execute([&] {
      tbb::parallel_for(
          0, size, [=](int) { work(steps); }, tbb::static_partitioner{});
    });
  }
  tbb::task_arena arena;
  int size;
};

template <typename Runner>
void back_to_back(benchmark::State& state) {
  Runner runner(available_cpus());
  for (auto _ : state) runner.run(state.range(0));
}

template <typename Runner>
void after_pause(benchmark::State& state) {
  Runner runner(available_cpus());
  for (auto _ : state) {
    std::this_thread::sleep_for(std::chrono::microseconds(300));  // longer than the team spins
    const auto begin = std::chrono::steady_clock::now();
    runner.run(state.range(0));
    state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
}

// Steps of 0 show the bare cost; 40,000 are the size of a small expert's projection.
#define SLUICE_REGION(Runner)                                                            \
  BENCHMARK(back_to_back<Runner>)->ArgName("steps")->Arg(0)->Arg(40'000)->UseRealTime(); \
  BENCHMARK(after_pause<Runner>)->ArgName("steps")->Arg(0)->Arg(40'000)->UseManualTime()
SLUICE_REGION(Team);
SLUICE_REGION(TeamChunks);
SLUICE_REGION(TeamPhases);
SLUICE_REGION(Tbb);
#undef SLUICE_REGION

}  // namespace
}  // namespace sluice::kernels
