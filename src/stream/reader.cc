#include "stream/reader.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/memory.h"
#include "stream/input_file.h"

namespace sluice::stream {
namespace {

// Operations of one read in a row that may bring nothing new (EINTR, EAGAIN, a direct read that repeats its last
// block) before it is given up. Signals interrupt a read a few times at most; the limit only turns a hang into an
// error.
constexpr unsigned kMaxFruitless = 100;

constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

/// A Read on its way, possibly through several operations.
struct Transfer {
  Read read;
  std::uint32_t begin = 0;    // where the current operation starts, in bytes from read.offset
  std::uint32_t arrived = 0;  // bytes from read.offset that are there
  unsigned fruitless = 0;     // operations in a row that brought nothing new
  bool had_eio = false;
  std::string error;           // empty, or why it failed
  std::uint32_t next = kNone;  // in the List that holds it
};

/// A first-in first-out list that links transfers by index, so that moving one between lists allocates nothing.
struct List {
  std::uint32_t head = kNone;
  std::uint32_t tail = kNone;

  bool empty() const { return head == kNone; }

  void push_back(std::vector<Transfer>& transfers, std::uint32_t id) {
    transfers[id].next = kNone;
    (empty() ? head : transfers[tail].next) = id;
    tail = id;
  }

  void push_front(std::vector<Transfer>& transfers, std::uint32_t id) {
    if (empty()) tail = id;
    transfers[id].next = head;
    head = id;
  }

  std::uint32_t pop_front(const std::vector<Transfer>& transfers) {
    const std::uint32_t id = head;
    head = transfers[id].next;
    return id;
  }
};

}  // namespace

Window window(std::uint64_t offset, std::uint64_t bytes) {
  constexpr std::uint64_t kLimit = std::uint64_t{1} << 31;
  if (bytes >= kLimit) fail("a window of {} bytes is too long; the limit is {}", bytes, kLimit);
  const std::uint64_t begin = round_down(offset, kIoAlignment);
  const std::uint64_t end = round_up(offset + bytes, kIoAlignment);
  return {begin, static_cast<std::uint32_t>(end - begin), static_cast<std::uint32_t>(offset - begin)};
}

struct Reader::State {
  State(std::unique_ptr<IoEngine> io_engine, IoChoice io_choice)
      : choice(std::move(io_choice)), engine(std::move(io_engine)), results(engine->depth()) {
    assert(engine->depth() > 0);
    ops.reserve(engine->depth());
  }

  void accept(const Read& read);
  void start();
  void settle(const IoResult& result);
  void advance(std::uint32_t id, std::uint32_t bytes);
  void again(std::uint32_t id);
  void finish(std::uint32_t id, std::string error);

  const InputFile& file_of(const Transfer& transfer) const {
    return files[static_cast<std::size_t>(transfer.read.file)];
  }

  IoChoice choice;
  IoStats stats;
  std::vector<InputFile> files;
  std::unique_ptr<IoEngine> engine;  // after files: it is destroyed first and waits for what it has begun

  std::vector<Transfer> transfers;  // grows to the most that were ever outstanding; each is in one list or in flight
  List free;
  List waiting;   // for room in the engine
  List finished;  // for poll() to return
  std::size_t in_flight = 0;
  std::size_t outstanding = 0;

  std::vector<IoOp> ops;          // scratch of start(), at most the depth
  std::vector<IoResult> results;  // scratch of poll(), the depth
};

void Reader::State::accept(const Read& read) {
  assert(read.needed <= read.length);
  assert(static_cast<std::size_t>(read.file) < files.size());
  assert(!choice.direct || (read.offset % kIoAlignment == 0 && read.length % kIoAlignment == 0 &&
                            reinterpret_cast<std::uintptr_t>(read.dest) % kIoAlignment == 0));
  if (free.empty()) {
    transfers.emplace_back();
    free.push_back(transfers, static_cast<std::uint32_t>(transfers.size() - 1));
  }
  const std::uint32_t id = free.pop_front(transfers);
  Transfer& transfer = transfers[id];
  transfer.read = read;
  transfer.begin = 0;
  transfer.arrived = 0;
  transfer.fruitless = 0;
  transfer.had_eio = false;
  transfer.error.clear();
  ++outstanding;
  if (read.length == 0) {
    finished.push_back(transfers, id);
  } else {
    waiting.push_back(transfers, id);
  }
}

void Reader::State::start() {
  ops.clear();
  const std::size_t room = engine->depth() - in_flight;
  while (ops.size() < room && !waiting.empty()) {
    const std::uint32_t id = waiting.pop_front(transfers);
    const Transfer& transfer = transfers[id];
    ops.push_back({.fd = file_of(transfer).descriptor(),
                   .offset = transfer.read.offset + transfer.begin,
                   .length = transfer.read.length - transfer.begin,
                   .dest = transfer.read.dest + transfer.begin,
                   .id = id});
  }
  if (ops.empty()) return;
  engine->submit(ops);
  in_flight += ops.size();
  stats.reads += ops.size();
  stats.max_in_flight = std::max<std::uint64_t>(stats.max_in_flight, in_flight);
}

void Reader::State::settle(const IoResult& result) {
  --in_flight;
  const auto id = static_cast<std::uint32_t>(result.id);
  Transfer& transfer = transfers[id];
  if (result.result >= 0) {
    advance(id, static_cast<std::uint32_t>(result.result));
    return;
  }
  const int error = -result.result;
  // A drive reports EIO for a passing fault too; what lasts fails again.
  const bool first_eio = error == EIO && !std::exchange(transfer.had_eio, true);
  if (first_eio || ((error == EINTR || error == EAGAIN) && transfer.fruitless < kMaxFruitless)) {
    ++stats.retries;
    again(id);
    return;
  }
  finish(id, fmt::format("{}: cannot be read at byte {}: {}", file_of(transfer).path().string(),
                         transfer.read.offset + transfer.begin, std::strerror(error)));
}

/// The current operation transferred `bytes`: the read is done, goes on, or the file has ended.
void Reader::State::advance(std::uint32_t id, std::uint32_t bytes) {
  Transfer& transfer = transfers[id];
  stats.bytes += bytes;
  const std::uint32_t arrived = transfer.begin + bytes;
  if (arrived > transfer.arrived) {
    transfer.arrived = arrived;
    transfer.fruitless = 0;
  }
  // Enough is enough: what the read asked for beyond its need is the slack of a window or past the end of the file.
  if (transfer.arrived >= transfer.read.needed) {
    finish(id, {});
    return;
  }
  // At the end of a file whose length is no multiple of the alignment, a direct read that goes on brings its last
  // block again and again, never zero.
  if (bytes == 0 || transfer.fruitless >= kMaxFruitless) {
    finish(id, fmt::format("{}: ends at byte {}, expected {} or more: truncated, or changed while running",
                           file_of(transfer).path().string(), transfer.read.offset + transfer.arrived,
                           transfer.read.offset + transfer.read.needed));
    return;
  }
  ++stats.short_reads;
  transfer.begin = transfer.arrived;
  if (choice.direct) transfer.begin = static_cast<std::uint32_t>(round_down(transfer.begin, kIoAlignment));
  again(id);
}

void Reader::State::again(std::uint32_t id) {
  ++transfers[id].fruitless;
  waiting.push_front(transfers, id);  // it has waited its turn already
}

void Reader::State::finish(std::uint32_t id, std::string error) {
  Transfer& transfer = transfers[id];
  transfer.error = std::move(error);
  if (!choice.direct) {
    // Whole pages only are dropped, so the range is widened to them.
    const std::uint64_t begin = round_down(transfer.read.offset, kIoAlignment);
    const std::uint64_t end = round_up(transfer.read.offset + transfer.read.length, kIoAlignment);
    posix_fadvise(file_of(transfer).descriptor(), static_cast<off_t>(begin), static_cast<off_t>(end - begin),
                  POSIX_FADV_DONTNEED);
  }
  finished.push_back(transfers, id);
}

Reader::Reader(std::unique_ptr<IoEngine> engine, IoChoice choice)
    : state_(std::make_unique<State>(std::move(engine), std::move(choice))) {}

Reader::Reader(std::unique_ptr<IoEngine> engine, bool direct) {
  IoChoice choice{.engine = std::string(engine->name()), .direct = direct, .reason = {}};
  state_ = std::make_unique<State>(std::move(engine), std::move(choice));
}

Reader::~Reader() = default;
Reader::Reader(Reader&&) noexcept = default;

int Reader::add_file(const std::filesystem::path& path) {
  state_->files.push_back(InputFile::open(path, state_->choice.direct));
  return static_cast<int>(state_->files.size() - 1);
}

void Reader::submit(std::span<const Read> reads) {
  for (const Read& read : reads) state_->accept(read);
  state_->start();
}

std::size_t Reader::poll(std::span<Completion> done, bool wait) {
  State& state = *state_;
  if (done.empty()) return 0;
  do {
    if (state.in_flight == 0) break;
    const std::size_t count = state.engine->reap(state.results, wait && state.finished.empty());
    for (std::size_t i = 0; i < count; ++i) state.settle(state.results[i]);
    state.start();
  } while (wait && state.finished.empty());

  std::size_t count = 0;
  for (; count < done.size() && !state.finished.empty(); ++count) {
    const std::uint32_t id = state.finished.pop_front(state.transfers);
    const Transfer& transfer = state.transfers[id];
    done[count] = {.tag = transfer.read.tag, .length = transfer.read.length, .error = transfer.error};
    state.free.push_back(state.transfers, id);  // its error stays readable until accept() takes it again
  }
  state.outstanding -= count;
  return count;
}

std::size_t Reader::outstanding() const { return state_->outstanding; }
const IoStats& Reader::stats() const { return state_->stats; }
const IoChoice& Reader::choice() const { return state_->choice; }

}  // namespace sluice::stream
