#include "model/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/error.h"

namespace sluice::model {
namespace {

/// Two attention layers without windows or recurrent layers.
SessionShape plain_shape(int context) { return {{{{2, 8, DType::f16}, 0}, {{1, 4, DType::f32}, 0}}, {}, context, 512}; }

/// A layer that keeps all, one with a window of 100 that becomes a ring, and a recurrent one.
SessionShape mixed_shape(int context) {
  return {{{{2, 8, DType::f16}, 0}, {{1, 4, DType::f32}, 100}}, {{24, 96}}, context, 16};
}

std::size_t block_bytes(int layer) {
  return plain_shape(1).caches[static_cast<std::size_t>(layer)].shape.block_bytes();
}

std::vector<int> numbers(int count) {
  std::vector<int> result(static_cast<std::size_t>(count));
  std::iota(result.begin(), result.end(), 0);
  return result;
}

/// Fills every block with a value that tells layer and block apart.
void paint(Session& session, int salt) {
  for (int layer = 0; layer < 2; ++layer) {
    for (int position = 0; position < session.position(); position += kernels::kKvBlock) {
      std::memset(session.block(layer, position), salt + 16 * layer + position / kernels::kKvBlock, block_bytes(layer));
    }
  }
}

std::vector<std::byte> content(Session& session, int layer) {
  std::vector<std::byte> bytes;
  const std::size_t size = block_bytes(layer);
  for (int position = 0; position < session.position(); position += kernels::kKvBlock) {
    bytes.insert(bytes.end(), session.block(layer, position), session.block(layer, position) + size);
  }
  return bytes;
}

TEST(Session, BlocksOfLayersAndPositionsDoNotOverlap) {
  Session session(plain_shape(1000));
  session.append(numbers(300));
  paint(session, 1);
  for (int layer = 0; layer < 2; ++layer) {
    for (int position = 0; position < 300; ++position) {
      const int expected = 1 + 16 * layer + position / kernels::kKvBlock;
      ASSERT_EQ(static_cast<int>(*session.block(layer, position)), expected);
      ASSERT_EQ(session.blocks(layer)[position / kernels::kKvBlock], session.block(layer, position));
    }
  }
}

TEST(Session, MemoryIsWhatTheBudgetCounts) {
  Session session(plain_shape(1000));
  for (const int count : {1, 63, 1, 1, 400}) {
    session.append(numbers(count));
    EXPECT_EQ(session.bytes(), plain_shape(1000).bytes(session.position()));
  }
}

TEST(Session, RestoreBringsBackTokensCacheAndRandomState) {
  Session session(plain_shape(1000));
  session.append(numbers(100));
  session.rng_state = 7;
  paint(session, 1);
  const SessionSnapshot snapshot = session.save();
  const std::vector<std::byte> first = content(session, 0);
  const std::vector<std::byte> second = content(session, 1);

  session.append(numbers(500));
  session.rng_state = 8;
  paint(session, 5);
  session.restore(snapshot);
  EXPECT_EQ(session.position(), 100);
  EXPECT_EQ(session.rng_state, 7U);
  EXPECT_EQ(content(session, 0), first);
  EXPECT_EQ(content(session, 1), second);
}

TEST(Session, TruncateKeepsTheRestAndFreesBlocks) {
  Session session(plain_shape(1000));
  session.append(numbers(300));
  paint(session, 1);
  const std::vector<std::byte> before = content(session, 0);
  session.truncate(130);
  EXPECT_EQ(session.bytes(), plain_shape(1000).bytes(130));
  const std::vector<std::byte> after = content(session, 0);
  ASSERT_LT(after.size(), before.size());
  EXPECT_TRUE(std::equal(after.begin(), after.end(), before.begin()));
  EXPECT_EQ(session.tokens().back(), 129);
}

/// Appends one token at a time and leaves its position in the ring and the state, as a forward pass would.
void advance(Session& session, int count) {
  for (int i = 0; i < count; ++i) {
    const int position = session.position();
    session.append(numbers(1));
    const auto row = static_cast<std::size_t>(position % kernels::kKvBlock) * 4 * sizeof(float);
    std::memcpy(session.block(1, position) + row, &position, sizeof(position));
    session.state(0).conv[23] += 1;
    session.state(0).memory[95] = static_cast<float>(position);
  }
}

int stored(const Session& session, int position) {
  int value = 0;
  const auto row = static_cast<std::size_t>(position % kernels::kKvBlock) * 4 * sizeof(float);
  std::memcpy(&value, session.blocks(1)[position / kernels::kKvBlock] + row, sizeof(value));
  return value;
}

TEST(Session, AWindowIsARingThatHoldsWhatTheNextChunkSees) {
  SessionShape shape = mixed_shape(4000);
  EXPECT_EQ(shape.kept_blocks(shape.caches[1]), 3);  // 100 + 15 positions from anywhere in a block
  EXPECT_LT(shape.bytes(4000), plain_shape(4000).bytes(4000));
  Session session(shape);
  for (int chunks = 0; chunks < 200; ++chunks) {
    advance(session, 16);
    for (int p = std::max(0, session.position() - 16 - 99); p < session.position(); ++p)
      ASSERT_EQ(stored(session, p), p);
  }
  EXPECT_EQ(session.bytes(), shape.bytes(session.position()));
}

TEST(Session, AWindowAsLongAsTheContextIsNoRing) {
  const SessionShape shape = mixed_shape(100);
  EXPECT_EQ(shape.kept_blocks(shape.caches[1]), 2);
}

TEST(Session, RecurrentStateGoesBackToCheckpointsOnly) {
  Session session(mixed_shape(1000));
  advance(session, 50);
  session.checkpoint();
  advance(session, 100);
  session.checkpoint();
  advance(session, 400);
  EXPECT_EQ(session.truncate(550), 550);  // where it is
  EXPECT_EQ(session.state(0).conv[23], 550);
  EXPECT_EQ(session.truncate(300), 150);
  EXPECT_EQ(session.position(), 150);
  EXPECT_EQ(session.state(0).conv[23], 150);
  EXPECT_EQ(session.state(0).memory[95], 149);
  for (int p = 51; p < 150; ++p) ASSERT_EQ(stored(session, p), p);  // the ring came back, too
  advance(session, 10);
  EXPECT_EQ(session.truncate(149), 50);
  EXPECT_EQ(session.truncate(49), 0);
  EXPECT_EQ(session.state(0).conv[23], 0);
  EXPECT_EQ(session.state(0).memory[95], 0);
}

TEST(Session, ARingAloneGoesBackAsFarAsItReaches) {
  SessionShape shape = mixed_shape(1000);
  shape.states.clear();
  Session session(shape);
  session.append(numbers(300));           // blocks 2, 3 and 4 are there
  EXPECT_EQ(session.truncate(228), 228);  // sees positions from 129 on, all in block 2 and later
  session.append(numbers(72));
  EXPECT_EQ(session.truncate(200), 0);  // would see position 101 of block 1
}

TEST(Session, SnapshotsHoldRecurrentStateAndRings) {
  Session session(mixed_shape(1000));
  advance(session, 333);
  const SessionSnapshot snapshot = session.save();
  advance(session, 200);
  session.restore(snapshot);
  EXPECT_EQ(session.position(), 333);
  EXPECT_EQ(session.state(0).memory[95], 332);
  for (int p = 234; p < 333; ++p) ASSERT_EQ(stored(session, p), p);
}

TEST(Session, RefusesWhatDoesNotFit) {
  Session session(plain_shape(100));
  session.append(numbers(60));
  EXPECT_THROW(session.append(numbers(41)), Error);
  EXPECT_EQ(session.position(), 60);
  session.append(numbers(40));
  EXPECT_EQ(session.position(), session.context());

  Session other(SessionShape{{{{2, 16, DType::f16}, 0}}, {}, 100, 512});
  EXPECT_THROW(other.restore(session.save()), Error);
}

}  // namespace
}  // namespace sluice::model
