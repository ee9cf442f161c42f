// Moves scale between neighbouring layers, channel by channel: the same function, but one that is easier to quantize.
//
// Relu, MaxPool, Add and averages hand a positive factor through, so a channel may be f times as large where the rows
// of a weight (and the bias) write it, if the columns that read it are divided by f. Factors are powers of two here:
// every product and every sum is then the old one with another exponent, so the network computes equal bits, as long as
// no number leaves the range of normal floats.
//
// How factors are chosen, for a channel that writes up to r1 and is read by weights up to r2:
//
//   f = sqrt(r2 / r1), which makes both r1 * f and r2 / f the geometric mean
//
//   cross-layer equalization (Nagel et al., arXiv 1906.04721, section 4.1)   r1 = largest |weight| that writes it
//   SmoothQuant (Xiao et al., arXiv 2211.10438, eq. 4, alpha = 0.5)          r1 = largest |value| met in a calibration
//   set
//
// Call it on the float graph, batch norms folded; masks stay valid, because no zero becomes another number.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "pare/channels/channel_sets.h"

namespace pare::channels {

// The graph with channel c of the set times 2^exponents[c]. Throws as permute_channels does, kInvalidArgument for
// another number of exponents or one beyond +-64, kUnsupported where a batch norm carries the set.
[[nodiscard]] graph::Graph rescale_channels(const graph::Graph& graph, const ChannelSet& set,
                                            std::span<const int> exponents);

struct RescaledGraph {
  graph::Graph graph;
  std::map<std::string, std::vector<int>> exponents;  // by the set's name; sets whose channels all stay are left out
};

// All sets that may change, over and over until nothing moves any more (at most 20 times: a set's rows are the columns
// of another's weights). kUnsupported where batch norms are not folded.
[[nodiscard]] RescaledGraph equalize_across_layers(const graph::Graph& graph);

// Largest magnitude that was met in each entry of a value's axis 1, by the value's name.
using ChannelExtents = std::map<std::string, std::vector<float>>;

// Of all sets that may change; values that `extents` does not name count as 0, channels that are 0 everywhere stay.
// Throws as above, kInvalidArgument where a list does not have an entry for each of axis 1, or has NaN or infinity.
[[nodiscard]] RescaledGraph smooth_activations(const graph::Graph& graph, const ChannelExtents& extents);

}  // namespace pare::channels
