// Optimal Brain Surgeon one column at a time: what SparseGPT (Frantar and Alistarh, arXiv 2301.00774) and GPTQ (Frantar
// et al., arXiv 2210.17323) have in common.
//
// The columns of a weight W [rows, k] get their final values from left to right, each row for itself. What a column
// loses is spread over the columns to its right such that ||W X - W' X||^2 grows least, X [k, samples] being the
// layer's inputs and H = X X^T:
//
//   error = (w_j - value) / U_jj        w_i -= error * U_ji for i > j        inverse(H) = U^T U, U upper triangular
//
// Within a panel of some 32 columns this goes column by column. What is right of the panel in its block of columns is
// brought up to date by one matrix product, and what is right of the block by another (GPTQ, section 3.3, step 2, on
// two levels): products are where the time goes.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace pare::sparsity {

struct ObsOptions {
  double damping = 0.01;           // of the Hessian's mean diagonal, added to it: 1 % in both papers
  std::int64_t block_elems = 128;  // columns after which the rest of the weight is brought up to date: both papers'
  // Throws kInvalidArgument: damping that is not positive, blocks without columns. `where`: for errors.
  void validate(const std::string& where) const;
};

// Columns [begin, end).
struct Columns {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  [[nodiscard]] std::int64_t size() const { return end - begin; }
};

// A weight and the Hessian of its inputs, checked and prepared.
struct ObsProblem {
  torch::Tensor weight;  // float32 [rows, k], a copy on the CPU
  torch::Tensor factor;  // U, float32 [k, k]; undefined for an empty weight
  torch::Tensor unused;  // bool [k]: inputs that were never anything but 0. Nothing is spread from or to them
};

// weight [rows, k] and hessian [k, k], both float32. Throws kInvalidArgument for other shapes and types, kNumeric for
// NaN or infinity and for a Hessian that stays singular with this damping. `method`: for errors.
[[nodiscard]] ObsProblem obs_problem(const torch::Tensor& weight, const torch::Tensor& hessian, double damping,
                                     const std::string& method);

// A panel of columns of all rows, in plain memory. Rows may be worked on in parallel.
class ObsPanel {
 public:
  // weight: [rows, k], changed in place; factor: of the panel's columns, [size, size]; errors: zeros, one for each
  // weight of the panel, rows `errors_stride` elements apart.
  ObsPanel(float* weight, std::int64_t k, const float* factor, Columns columns, float* errors,
           std::int64_t errors_stride)
      : weight_(weight), k_(k), factor_(factor), columns_(columns), errors_(errors), errors_stride_(errors_stride) {}

  [[nodiscard]] const Columns& columns() const { return columns_; }
  // What the columns to its left have made of it so far. `col` counts from the weight's first column, as below.
  [[nodiscard]] float value(std::int64_t row, std::int64_t col) const { return weight_[row * k_ + col]; }
  // U_jj: setting a weight w to 0 costs (w / pivot)^2.
  [[nodiscard]] float pivot(std::int64_t col) const { return factor_[(col - columns_.begin) * (columns_.size() + 1)]; }
  // Gives a weight its final value; the columns of the panel to its right make up for it.
  void fix(std::int64_t row, std::int64_t col, float value) {
    const std::int64_t size = columns_.size();
    const std::int64_t at = col - columns_.begin;
    float* const __restrict__ w = weight_ + row * k_ + columns_.begin;
    const float* const __restrict__ u = factor_ + at * size;
    const float error = (w[at] - value) / u[at];
    errors_[row * errors_stride_ + at] = error;
    w[at] = value;
    for (std::int64_t right = at + 1; right < size; ++right) {
      w[right] -= error * u[right];
    }
  }

 private:
  float* weight_;
  std::int64_t k_;
  const float* factor_;
  Columns columns_;
  float* errors_;
  std::int64_t errors_stride_;
};

// Columns of a panel, about: as many as plain loops keep up with products.
inline constexpr std::int64_t kPanelElems = 32;

// Goes through the panels, which follow each other from column 0 to the last, in blocks of at most `block_elems`
// columns (or of one panel). `fix_panel` fixes what shall not stay as it is; a weight that it does not fix stays and
// costs nothing. Returns the sum over all outputs of the squared error that the objective expects, ||W X - W' X||^2
// with the damped Hessian. Precondition: the weight is not empty.
double fix_columns(ObsProblem& problem, const std::vector<Columns>& panels, std::int64_t block_elems,
                   const std::function<void(ObsPanel& panel)>& fix_panel);

}  // namespace pare::sparsity
