#include "model/session.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "base/error.h"

namespace sluice::model {
namespace {

const std::vector<kernels::KvShape> kLayers{{2, 8, DType::f16}, {1, 4, DType::f32}};

std::vector<int> numbers(int count) {
  std::vector<int> result(static_cast<std::size_t>(count));
  std::iota(result.begin(), result.end(), 0);
  return result;
}

/// Fills every block with a value that tells layer and block apart.
void paint(Session& session, int salt) {
  for (int layer = 0; layer < 2; ++layer) {
    for (int position = 0; position < session.position(); position += kernels::kKvBlock) {
      std::memset(session.block(layer, position), salt + 16 * layer + position / kernels::kKvBlock,
                  kLayers[static_cast<std::size_t>(layer)].block_bytes());
    }
  }
}

std::vector<std::byte> content(Session& session, int layer) {
  std::vector<std::byte> bytes;
  const std::size_t size = kLayers[static_cast<std::size_t>(layer)].block_bytes();
  for (int position = 0; position < session.position(); position += kernels::kKvBlock) {
    bytes.insert(bytes.end(), session.block(layer, position), session.block(layer, position) + size);
  }
  return bytes;
}

TEST(Session, BlocksOfLayersAndPositionsDoNotOverlap) {
  Session session(kLayers, 1000);
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
  Session session(kLayers, 1000);
  for (const int count : {1, 63, 1, 1, 400}) {
    session.append(numbers(count));
    EXPECT_EQ(session.kv_bytes(), Session::kv_bytes(kLayers, session.position()));
  }
}

TEST(Session, RestoreBringsBackTokensCacheAndRandomState) {
  Session session(kLayers, 1000);
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
  Session session(kLayers, 1000);
  session.append(numbers(300));
  paint(session, 1);
  const std::vector<std::byte> before = content(session, 0);
  session.truncate(130);
  EXPECT_EQ(session.kv_bytes(), Session::kv_bytes(kLayers, 130));
  const std::vector<std::byte> after = content(session, 0);
  ASSERT_LT(after.size(), before.size());
  EXPECT_TRUE(std::equal(after.begin(), after.end(), before.begin()));
  EXPECT_EQ(session.tokens().back(), 129);
}

TEST(Session, RefusesWhatDoesNotFit) {
  Session session(kLayers, 100);
  session.append(numbers(60));
  EXPECT_THROW(session.append(numbers(41)), Error);
  EXPECT_EQ(session.position(), 60);
  session.append(numbers(40));
  EXPECT_EQ(session.position(), session.context());

  Session other({{2, 16, DType::f16}}, 100);
  EXPECT_THROW(other.restore(session.save()), Error);
}

}  // namespace
}  // namespace sluice::model
