// Prints the first token that the model in argv[1] would continue the tokens 1, 2, 3 with.
#include <algorithm>
#include <array>
#include <cstdio>
#include <span>

#include "model/model.h"

int main(int, char** argv) {
  sluice::model::RuntimeSettings settings;
  settings.cache_slots = 4;
  const auto model = sluice::model::Model::load(argv[1], settings);
  sluice::model::Session session = model->new_session();
  const std::array<int, 3> tokens{1, 2, 3};
  model->prefill(session, tokens, sluice::model::LogitsWanted::last, [](int, int, std::span<float> logits) {
    std::printf("token %d\n", static_cast<int>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  });
  return 0;
}
