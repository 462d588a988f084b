// How many guessed experts are worth reading before it is known which ones a layer needs.
//
// Between the last read that a layer waits for and the first that the next layer asks for, the disk is idle: experts
// are computed, then the next layer's attention and router. Let w be that time, e the time to read one expert, and let
// candidates be the guessed experts that are not resident, best first. They are read one after the other, so candidate
// i occupies the disk from i e on. If it proves to be needed, what was read of it inside w is time saved; if not, what
// is still to read after w keeps the disk from what is needed then. With p(i) the share of candidates of rank i that
// were needed so far and q the share of lookups that had other misses to wait for,
//
//   gain(i) = p(i) inside(i) - (1 - p(i)) q (e - inside(i)),   inside(i) = clamp(w - i e, 0, e),
//
// and candidates are read as long as the gain is positive. A drive that is busy leaves no w, guesses that are wrong
// have no p: either way reading ahead ends by itself, and is tried again now and then.
//
// The gain leaves out what cannot be seen from here: what the guess costs to make, drives that answer mixed or short
// queues more slowly. So decode also tries it out: every kTrialPeriod-th lookup goes without a guess, its wait is
// compared with the mean of those since the one before, and when guessing proves to cost time, it is the other way
// round: most lookups go without, and every kTrialPeriod-th has a guess.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/phase.h"

namespace sluice::cache {

enum class LookaheadMode : std::uint8_t {
  off,
  on,         // whatever fits into the idle time, however often it was wrong
  automatic,  // as long as it gains
};

/// Which of two ways is faster, by taking the other one now and then. Allocates nothing.
class LookaheadTrial {
 public:
  /// Whether the next lookup is to have a guess.
  bool next();
  /// What a lookup cost in seconds: waiting, and making the guess if it had one.
  void cost(bool guessed, double seconds);
  /// Seconds that a guess saves on average; negative if it costs more than it saves.
  double saved() const { return saved_; }

 private:
  bool usually_guess() const;

  std::uint32_t turn_ = 0;
  std::uint32_t comparisons_ = 0;
  double saved_ = 0;
  double usual_sum_ = 0;  // since the last comparison
  std::uint32_t usual_count_ = 0;
};

/// Measures and decides; reads nothing. Times in seconds by a clock of the caller. Never allocates after construction.
class Lookahead {
 public:
  /// Candidates whose precision is told apart; no more are ever worth reading.
  static constexpr std::size_t kRanks = 16;

  Lookahead(LookaheadMode mode, int layers);

  /// Whether it is worth making a guess for a layer. Counts as a question: after many guesses in a row of which nothing
  /// was worth reading, only one of kRetry is answered with yes.
  bool wants_guess(Phase phase, int layer);

  /// The disk is idle from `now` on, and `candidates` of the next lookup are guessed, best first (those beyond kRanks
  /// are ignored). Returns how many of them are worth reading when each takes `expert_bytes` from the disk.
  std::size_t choose(Phase phase, int layer, std::span<const int> candidates, std::uint64_t expert_bytes, double now);

  /// The lookup of `layer` has come: its experts, ascending, and how many of them are neither resident nor chosen.
  void lookup(Phase phase, int layer, std::span<const int> ids, std::size_t other_misses, double now);

  /// Making the guess for a layer took `seconds`.
  void guessed(Phase phase, int layer, double seconds);
  /// The lookup of `layer` has been served, for which `seconds` were spent waiting.
  void served(Phase phase, int layer, double seconds);

  /// The disk took `seconds` for `bytes`, from being asked to the last of them.
  void measured(std::uint64_t bytes, double seconds);

 private:
  struct LayerState {
    double window = 0;            // seconds the disk was idle before its lookups
    std::uint32_t fruitless = 0;  // guesses in a row of which nothing was worth reading
    bool on_trial = false;        // the next lookup counts for the trial,
    bool guess = false;           // as one with a guess,
    double guess_seconds = 0;     // which took that long to make
  };
  LayerState& state(Phase phase, int layer) {
    return layers_[static_cast<std::size_t>(phase)][static_cast<std::size_t>(layer)];
  }
  double seconds_to_read(std::uint64_t bytes) const { return static_cast<double>(bytes) * busy_seconds_ / read_; }
  double gain(std::size_t rank, double window, double expert_seconds) const;

  LookaheadMode mode_;
  std::array<std::vector<LayerState>, 2> layers_;  // by Phase
  std::array<double, kRanks> precision_;           // p
  double busy_;                                    // q
  LookaheadTrial trial_;
  double read_, busy_seconds_;  // bytes and seconds of late: together the bandwidth
  // The guess that waits for its lookup.
  int guessed_layer_ = -1;
  double idle_since_ = 0;
  std::vector<int> candidates_;
};

}  // namespace sluice::cache
