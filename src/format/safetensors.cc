#include "pare/format/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "pare/base/checksum.h"
#include "pare/base/error.h"
#include "pare/base/file.h"
#include "pare/base/strings.h"

namespace pare::format {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kMostHeaderBytes = 100'000'000;  // the limit of the safetensors library
constexpr std::size_t kChecksumBytes = 8;
constexpr std::string_view kPadPrefix = "pare.pad";
constexpr std::string_view kChecksumName = "pare.checksum";
constexpr std::string_view kMetadataKey = "__metadata__";

std::size_t padding_after(std::size_t bytes) { return (kAlignment - bytes % kAlignment) % kAlignment; }

std::array<std::byte, 8> to_little_endian(std::uint64_t value) {
  std::array<std::byte, 8> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(value >> (8 * i));
  return bytes;
}

std::uint64_t from_little_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

// One tensor as the header describes it.
struct Entry {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::vector<std::uint64_t> offsets;  // begin, end; from the first byte after the header
};

// Accepts exactly the JSON that a header may be and nothing that nests deeper, so that no input can make it recurse or
// build a large tree. Returning false stops the parser; problem() says why.
class HeaderHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::map<std::string, std::string> metadata;
  std::vector<Entry> entries;

  [[nodiscard]] const std::string& problem() const { return problem_; }

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return unexpected("a fraction"); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    constexpr std::size_t kMostExtents = 64;
    if (place_ != Place::kNumbers) return unexpected("a number");
    std::vector<std::uint64_t>& numbers = field_ == "shape" ? entries.back().shape : entries.back().offsets;
    if (numbers.size() == kMostExtents)
      return fail(str_cat("more than ", kMostExtents, " extents in ", describe_place()));
    numbers.push_back(value);
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      metadata[field_] = value;
      return true;
    }
    if (place_ == Place::kTensor && field_ == "dtype") {
      entries.back().dtype = value;
      return true;
    }
    return unexpected("a string");
  }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::kStart:
        place_ = Place::kTop;
        return true;
      case Place::kTopValue:
        place_ = is_metadata_ ? Place::kMetadata : Place::kTensor;
        seen_fields_.clear();
        return true;
      default:
        return unexpected("an object");
    }
  }

  bool key(string_t& name) override {
    if (place_ == Place::kTop) {
      if (!seen_names_.insert(name).second) return fail(str_cat("the name '", name, "' stands there twice"));
      is_metadata_ = name == kMetadataKey;
      if (!is_metadata_) entries.push_back({name, {}, {}, {}});
      place_ = Place::kTopValue;
      return true;
    }
    if (!seen_fields_.insert(name).second) {
      return fail(str_cat("the key '", name, "' stands twice in ", describe_place()));
    }
    if (place_ == Place::kTensor && name != "dtype" && name != "shape" && name != "data_offsets") {
      return fail(str_cat("unknown key '", name, "' in ", describe_place()));
    }
    field_ = name;
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor && seen_fields_.size() != 3) {
      return fail(str_cat("dtype, shape or data_offsets is missing in ", describe_place()));
    }
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || field_ == "dtype") return unexpected("an array");
    place_ = Place::kNumbers;
    return true;
  }

  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return fail(str_cat("the header is no valid JSON at byte ", kLengthBytes + position));
  }

 private:
  // kTopValue: after a name, before its object. kNumbers: inside shape or data_offsets.
  enum class Place { kStart, kTop, kTopValue, kMetadata, kTensor, kNumbers, kEnd };

  [[nodiscard]] std::string describe_place() const {
    if (place_ == Place::kMetadata || (place_ == Place::kTopValue && is_metadata_)) return std::string(kMetadataKey);
    if (place_ == Place::kStart || entries.empty()) return "the header";
    return str_cat("tensor '", entries.back().name, "'");
  }

  bool unexpected(std::string_view what) { return fail(str_cat("the header has ", what, " in ", describe_place())); }

  bool fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  Place place_ = Place::kStart;
  bool is_metadata_ = false;
  std::string field_;
  std::set<std::string> seen_names_;
  std::set<std::string> seen_fields_;
  std::string problem_;
};

// Turns the parsed header into views, checking each fact against the file.
class Validator {
 public:
  Validator(const std::string& where, std::span<const std::byte> data, std::size_t data_start)
      : where_(where), data_(data), data_start_(data_start) {}

  // Precondition: entries in the order of their offsets.
  [[nodiscard]] std::vector<TensorView> run(const std::vector<Entry>& entries, bool checksum_matches) const {
    std::vector<TensorView> views;
    std::uint64_t end_before = 0;
    for (const Entry& entry : entries) {
      check_extent(entry, end_before);
      end_before = entry.offsets[1];
      TensorView view;
      view.name = entry.name;
      view.dtype = dtype_of(entry, checksum_matches);
      view.shape = shape_of(entry);
      view.bytes = data_.subspan(entry.offsets[0], entry.offsets[1] - entry.offsets[0]);
      check_shape(view);
      check_role(view, entry.offsets[0]);
      views.push_back(std::move(view));
    }
    if (end_before != data_.size()) {
      corrupt(str_cat("the tensors end ", data_.size() - end_before, " bytes before the file does"));
    }
    if (views.empty() || views.back().name != kChecksumName) {
      corrupt(str_cat("the last tensor is not '", kChecksumName, "': pare did not write this file"));
    }
    std::erase_if(
        views, [](const TensorView& view) { return view.name.starts_with(kPadPrefix) || view.name == kChecksumName; });
    return views;
  }

  [[noreturn]] void corrupt(const std::string& problem) const {
    throw Error(ErrorCategory::kCorruptData, problem, where_);
  }

 private:
  void check_extent(const Entry& entry, std::uint64_t end_before) const {
    if (entry.offsets.size() != 2) corrupt(str_cat("tensor '", entry.name, "' does not have two data_offsets"));
    const std::uint64_t begin = entry.offsets[0];
    const std::uint64_t end = entry.offsets[1];
    if (begin > end) corrupt(str_cat("tensor '", entry.name, "' ends at ", end, ", before it begins at ", begin));
    if (end > data_.size()) {
      corrupt(str_cat("truncated: tensor '", entry.name, "' ends at ", end, ", the data at ", data_.size()));
    }
    if (begin < end_before) {
      corrupt(str_cat("tensor '", entry.name, "' begins at ", begin, ", inside the one before, which ends at ",
                      end_before));
    }
    if (begin > end_before) {
      corrupt(str_cat("bytes ", end_before, " to ", begin, ", before tensor '", entry.name, "', belong to no tensor"));
    }
  }

  [[nodiscard]] DType dtype_of(const Entry& entry, bool checksum_matches) const {
    try {
      return dtype_from_safetensors_name(entry.dtype);
    } catch (const Error& error) {
      const std::string problem = str_cat("tensor '", entry.name, "': ", error.problem());
      if (!checksum_matches) corrupt(problem);
      throw Error(error.category(), problem, where_, error.remedy());
    }
  }

  [[nodiscard]] Shape shape_of(const Entry& entry) const {
    Shape shape;
    for (const std::uint64_t extent : entry.shape) {
      if (extent > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        corrupt(str_cat("tensor '", entry.name, "' has an extent of ", extent));
      }
      shape.push_back(static_cast<std::int64_t>(extent));
    }
    return shape;
  }

  void check_shape(const TensorView& view) const {
    try {
      const auto needed = static_cast<std::size_t>(element_count(view.shape)) * size_bytes(view.dtype);
      if (needed != view.bytes.size()) {
        corrupt(str_cat("tensor '", view.name, "' of shape ", to_string(view.shape), " and type ",
                        safetensors_name(view.dtype), " needs ", needed, " bytes and has ", view.bytes.size()));
      }
    } catch (const Error& error) {
      if (error.category() == ErrorCategory::kCorruptData) throw;
      corrupt(str_cat("tensor '", view.name, "': ", error.problem()));
    }
  }

  void check_role(const TensorView& view, std::uint64_t begin) const {
    if (view.name.starts_with(kPadPrefix)) {
      const bool all_zero =
          std::all_of(view.bytes.begin(), view.bytes.end(), [](std::byte b) { return b == std::byte{0}; });
      if (view.dtype != DType::kU8 || view.bytes.empty() || view.bytes.size() >= kAlignment || !all_zero) {
        corrupt(str_cat("filler '", view.name, "' is not 1 to ", kAlignment - 1, " bytes of 0"));
      }
      return;
    }
    if ((data_start_ + begin) % kAlignment != 0) {
      corrupt(str_cat("tensor '", view.name, "' begins at byte ", data_start_ + begin,
                      " of the file, which is no multiple of ", kAlignment));
    }
    if (view.name == kChecksumName && (view.dtype != DType::kS64 || view.shape != Shape{1})) {
      corrupt(str_cat("'", kChecksumName, "' is not one I64"));
    }
  }

  const std::string& where_;
  std::span<const std::byte> data_;
  std::size_t data_start_;
};

// The same bytes go into the file and into its checksum.
class HashingWriter {
 public:
  explicit HashingWriter(const std::filesystem::path& path) : file_(path) {}

  void write(std::span<const std::byte> bytes) {
    hash_.update(bytes);
    file_.write(bytes);
  }
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

  void finish() {
    file_.write(to_little_endian(hash_.digest()));
    file_.commit();
  }

 private:
  AtomicFileWriter file_;
  Xxh3Stream hash_;
};

// The header's JSON, in file order. `fillers[i]`: bytes of filler after tensor i.
class HeaderBuilder {
 public:
  void add(std::string_view name, DType dtype, const Shape& shape, std::size_t bytes) {
    header_[std::string(name)] = {
        {"dtype", safetensors_name(dtype)}, {"shape", shape}, {"data_offsets", {offset_, offset_ + bytes}}};
    offset_ += bytes;
  }
  void add_metadata(const std::map<std::string, std::string>& metadata) {
    if (!metadata.empty()) header_[std::string(kMetadataKey)] = metadata;
  }
  [[nodiscard]] std::string text(const std::string& where) const {
    std::string text;
    try {
      text = header_.dump();
    } catch (const nlohmann::json::type_error&) {
      throw Error(ErrorCategory::kInvalidArgument, "a tensor's name or a piece of metadata is not valid UTF-8", where);
    }
    text.append(padding_after(kLengthBytes + text.size()), ' ');
    if (text.size() > kMostHeaderBytes) {
      throw Error(ErrorCategory::kInvalidArgument, str_cat("a header of ", text.size(), " bytes is too long"), where);
    }
    return text;
  }

 private:
  nlohmann::ordered_json header_ = nlohmann::ordered_json::object();
  std::size_t offset_ = 0;
};

void check_names(std::span<const TensorView> tensors, const std::string& where) {
  std::set<std::string_view> names;
  for (const TensorView& tensor : tensors) {
    if (tensor.name == kMetadataKey || tensor.name.starts_with(kPadPrefix) || tensor.name.starts_with(kChecksumName)) {
      throw Error(ErrorCategory::kInvalidArgument, str_cat("the tensor name '", tensor.name, "' is reserved"), where);
    }
    if (!names.insert(tensor.name).second) {
      throw Error(ErrorCategory::kInvalidArgument, str_cat("two tensors are called '", tensor.name, "'"), where);
    }
  }
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata,
                       std::span<const TensorView> tensors) {
  check_names(tensors, path.string());
  HeaderBuilder header;
  header.add_metadata(metadata);
  std::size_t fillers = 0;
  for (const TensorView& tensor : tensors) {
    const std::size_t bytes = tensor.bytes.size();
    PARE_CHECK(bytes == static_cast<std::size_t>(element_count(tensor.shape)) * size_bytes(tensor.dtype));
    header.add(tensor.name, tensor.dtype, tensor.shape, bytes);
    const std::size_t padding = padding_after(bytes);
    if (padding > 0) {
      header.add(str_cat(kPadPrefix, ".", fillers++), DType::kU8, {static_cast<std::int64_t>(padding)}, padding);
    }
  }
  header.add(kChecksumName, DType::kS64, {1}, kChecksumBytes);
  const std::string text = header.text(path.string());

  HashingWriter writer(path);
  writer.write(to_little_endian(text.size()));
  writer.write(text);
  constexpr std::array<std::byte, kAlignment> kZeros{};
  for (const TensorView& tensor : tensors) {
    writer.write(tensor.bytes);
    writer.write(std::span(kZeros).first(padding_after(tensor.bytes.size())));
  }
  writer.finish();
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path, Checksum checksum) {
  const std::string where = path.string();
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  owner_ = file.bytes_owner();
  file_bytes_ = bytes.size();
  const auto corrupt = [&](const std::string& problem) { throw Error(ErrorCategory::kCorruptData, problem, where); };

  if (bytes.size() < kLengthBytes + kChecksumBytes) {
    corrupt(str_cat("truncated: ", bytes.size(), " bytes cannot be a safetensors file"));
  }
  const std::uint64_t header_bytes = from_little_endian(bytes);
  if (header_bytes > kMostHeaderBytes) corrupt(str_cat("a header of ", header_bytes, " bytes is too long"));
  if (header_bytes > bytes.size() - kLengthBytes) {
    corrupt(str_cat("truncated: the header has ", header_bytes, " bytes, the file ", bytes.size()));
  }
  const std::size_t data_start = kLengthBytes + header_bytes;
  if (data_start % kAlignment != 0) {
    corrupt(str_cat("the data begin at byte ", data_start, ", which is no multiple of ", kAlignment));
  }
  // The checksum is the last tensor, so its place is known before anything in the header is believed.
  const auto summed = bytes.first(bytes.size() - kChecksumBytes);
  checksum_matches_ = xxh3_64(summed) == from_little_endian(bytes.last(kChecksumBytes));

  HeaderHandler handler;
  const auto* const text = reinterpret_cast<const char*>(bytes.data()) + kLengthBytes;
  if (header_bytes == 0 || text[0] != '{') corrupt("the header does not begin with '{'");
  if (!nlohmann::json::sax_parse(text, text + header_bytes, &handler)) corrupt(handler.problem());

  // Tensors without elements share their offsets with a neighbour; a stable sort keeps those as the header has them.
  std::stable_sort(handler.entries.begin(), handler.entries.end(),
                   [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  const Validator validator(where, bytes.subspan(data_start), data_start);
  tensors_ = validator.run(handler.entries, checksum_matches_);
  if (checksum == Checksum::kVerify && !checksum_matches_) corrupt("the checksum does not match: the file was altered");
  metadata_ = std::move(handler.metadata);
  for (std::size_t i = 0; i < tensors_.size(); ++i) by_name_.emplace(tensors_[i].name, i);
}

const TensorView& SafetensorsFile::tensor(const std::string& name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) {
    std::vector<std::string> names;
    for (const TensorView& view : tensors_) names.push_back(view.name);
    throw Error(ErrorCategory::kCorruptData, str_cat("there is no tensor '", name, "'"), {}, did_you_mean(name, names));
  }
  return tensors_[found->second];
}

}  // namespace pare::format
