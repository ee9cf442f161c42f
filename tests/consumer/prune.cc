// Masks a built-in network 2:4 through the installed training floors.
#include <iostream>

#include "pare/graph/builtin.h"
#include "pare/sparsity/weight_norm_sparsifier.h"

int main() {
  pare::train::Model model(pare::graph::builtin("mlp"));
  pare::sparsity::WeightNormSparsifier sparsifier(pare::sparsity::MaskConfig::from_pattern("2:4"));
  sparsifier.prepare(model);
  sparsifier.step();
  const double kept = model.weight("fc1.weight").mask().mean().item<double>();
  std::cout << "kept " << kept << '\n';
  return kept == 0.5 ? 0 : 1;
}
