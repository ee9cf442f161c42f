// Event files read back by a small decoder of their own: bitwise CRC, hand-written varints, no code shared with the
// writer.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pare/base/file.h"
#include "pare/base/testing.h"
#include "pare/pipeline/report/report.h"
#include "pare/pipeline/report/report_sample.h"

namespace pare::pipeline {
namespace {

namespace fs = std::filesystem;

// Frames made by tensorboard 2.21.0's RecordWriter around Event(wall_time=12.5, step=7, summary={train/loss: 0.25}).
constexpr const char* kGoldenFrame =
    "200000000000000029eda95009000000000000294010072a130a110a0a747261696e2f6c6f7373150000803eba292371";
// The same library's masked_crc32c(b"123456789").
constexpr std::uint32_t kGoldenMaskedCrc = 0xc78ab0e5u;

std::uint32_t masked_crc(const std::string& bytes) {
  std::uint32_t crc = 0xffffffffu;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82f63b78u : 0u);
  }
  crc = ~crc;
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::uint64_t little_endian(const std::string& bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

std::vector<std::string> frames_of(const std::string& file) {
  std::vector<std::string> frames;
  for (std::size_t at = 0; at < file.size();) {
    const std::string length_bytes = file.substr(at, 8);
    const std::uint64_t length = little_endian(length_bytes);
    if (length_bytes.size() != 8 || length > file.size() - at - 8) {
      ADD_FAILURE() << "frame cut at byte " << at;
      break;
    }
    EXPECT_EQ(little_endian(file.substr(at + 8, 4)), masked_crc(length_bytes));
    frames.push_back(file.substr(at + 12, length));
    EXPECT_EQ(little_endian(file.substr(at + 12 + length, 4)), masked_crc(frames.back()));
    at += 16 + length;
  }
  return frames;
}

struct ProtoField {
  std::uint64_t number = 0;
  std::uint64_t scalar = 0;
  std::string bytes;
};

std::vector<ProtoField> fields_of(const std::string& message) {
  std::vector<ProtoField> fields;
  std::size_t at = 0;
  const auto varint = [&] {
    std::uint64_t value = 0;
    for (int shift = 0; at < message.size(); shift += 7) {
      const auto byte = static_cast<unsigned char>(message[at++]);
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (at < message.size()) {
    const std::uint64_t key = varint();
    ProtoField field;
    field.number = key >> 3;
    std::uint64_t length = 0;
    switch (key & 7) {
      case 0:
        field.scalar = varint();
        break;
      case 1:
        length = 8;
        break;
      case 2:
        length = varint();
        break;
      case 5:
        length = 4;
        break;
      default:
        ADD_FAILURE() << "wire type " << (key & 7);
        return fields;
    }
    field.bytes = message.substr(at, length);
    at += length;
    if ((key & 7) == 1 || (key & 7) == 5) field.scalar = little_endian(field.bytes);
    fields.push_back(field);
  }
  return fields;
}

struct Event {
  double wall_time = -1.0;
  std::int64_t step = 0;
  std::string file_version;
  bool session_start = false;
  std::vector<std::pair<std::string, float>> values;
};

Event event_of(const std::string& message) {
  Event event;
  for (const ProtoField& field : fields_of(message)) {
    if (field.number == 1) event.wall_time = std::bit_cast<double>(field.scalar);
    if (field.number == 2) event.step = static_cast<std::int64_t>(field.scalar);
    if (field.number == 3) event.file_version = field.bytes;
    if (field.number == 7) event.session_start = fields_of(field.bytes).at(0).scalar == 1;
    if (field.number != 5) continue;
    for (const ProtoField& value : fields_of(field.bytes)) {
      EXPECT_EQ(value.number, 1u);
      std::pair<std::string, float> tagged;
      for (const ProtoField& part : fields_of(value.bytes)) {
        if (part.number == 1) tagged.first = part.bytes;
        if (part.number == 2) tagged.second = std::bit_cast<float>(static_cast<std::uint32_t>(part.scalar));
      }
      event.values.push_back(tagged);
    }
  }
  return event;
}

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  return bytes;
}

class TensorBoardEvents : public ::testing::Test {
 protected:
  std::vector<std::string> names() const {
    std::vector<std::string> list;
    for (const auto& entry : fs::directory_iterator(folder_ / "events"))
      list.push_back(entry.path().filename().string());
    return list;
  }

  std::string write(const RunRecord& record) {
    write_tensorboard_events(folder_, record);
    EXPECT_EQ(names().size(), 1u);
    return read_text_file(folder_ / "events" / names().at(0));
  }

  std::vector<Event> events(const RunRecord& record) {
    std::vector<Event> list;
    for (const std::string& frame : frames_of(write(record))) list.push_back(event_of(frame));
    return list;
  }

  const pare::testing::TempDir temporary_;
  const fs::path folder_ = temporary_ / "run";
};

TEST(TensorBoardDecoder, ReadsWhatTensorBoardItselfWrote) {
  EXPECT_EQ(masked_crc("123456789"), kGoldenMaskedCrc);
  const std::vector<std::string> frames = frames_of(from_hex(kGoldenFrame));
  ASSERT_EQ(frames.size(), 1u);
  const Event event = event_of(frames[0]);
  EXPECT_EQ(event.wall_time, 12.5);
  EXPECT_EQ(event.step, 7);
  ASSERT_EQ(event.values.size(), 1u);
  EXPECT_EQ(event.values[0], std::make_pair(std::string("train/loss"), 0.25f));
}

TEST_F(TensorBoardEvents, AreByteForByteWhatTensorBoardWouldWrite) {
  RunRecord record;
  record.stages.resize(1);
  record.stages[0].seconds = 25.0;
  record.stages[0].steps = 14;
  record.series["loss"] = {{7, 0.25}};
  const std::string golden = from_hex(kGoldenFrame);
  const std::string file = write(record);
  ASSERT_GE(file.size(), golden.size());
  EXPECT_EQ(file.substr(file.size() - golden.size()), golden);
}

TEST_F(TensorBoardEvents, BeginWithTheFileVersionAndASession) {
  const std::vector<Event> list = events(RunRecord{});
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].file_version, "brain.Event:2");
  EXPECT_FALSE(list[0].session_start);
  EXPECT_TRUE(list[1].session_start);
  EXPECT_EQ(list[1].step, 0);
}

TEST_F(TensorBoardEvents, HoldEveryPointOfEverySeries) {
  RunRecord record = sample_record();
  record.series["custom"] = {{3, 1.5}, {6566, std::numeric_limits<double>::quiet_NaN()}};
  std::map<std::string, std::vector<std::pair<std::int64_t, std::uint32_t>>> read;
  std::int64_t last_step = 0;
  double last_time = 0.0;
  for (const Event& event : events(record)) {
    EXPECT_GE(event.step, last_step);
    EXPECT_GE(event.wall_time, last_time);
    last_step = event.step;
    last_time = event.wall_time;
    for (const auto& [tag, value] : event.values)
      read[tag].emplace_back(event.step, std::bit_cast<std::uint32_t>(value));
  }
  const std::map<std::string, std::string> tags{{"loss", "train/loss"},
                                                {"lr", "train/lr"},
                                                {"accuracy", "test/accuracy"},
                                                {"sparsity", "weights/sparsity"},
                                                {"custom", "run/custom"}};
  ASSERT_EQ(read.size(), tags.size());
  double seconds = 0.0;
  for (const StageRecord& stage : record.stages) seconds += stage.seconds;
  EXPECT_DOUBLE_EQ(last_time, seconds);
  for (const auto& [name, tag] : tags) {
    std::vector<std::pair<std::int64_t, std::uint32_t>> expected;
    for (const SeriesPoint& point : record.series.at(name)) {
      expected.emplace_back(point.step, std::bit_cast<std::uint32_t>(static_cast<float>(point.value)));
    }
    EXPECT_EQ(read[tag], expected) << tag;
  }
}

TEST_F(TensorBoardEvents, AreTheSameForTheSameRecordAndNamedAfterTheLastStep) {
  const std::string first = write(sample_record());
  EXPECT_EQ(names(), std::vector<std::string>{"events.out.tfevents.0000006566.pare"});
  EXPECT_EQ(write(sample_record()), first);
}

TEST_F(TensorBoardEvents, RemoveWhatIsStaleButKeepTheFileBefore) {
  const auto until = [](std::int64_t step) {
    RunRecord record;
    record.series["loss"] = {{0, 1.0}, {step, 0.5}};
    return record;
  };
  const std::string foreign = "events.out.tfevents.1700000000.host";
  for (const std::int64_t step : {70000, 10, 20, 30}) write_tensorboard_events(folder_, until(step));
  write_file_atomically(folder_ / "events" / foreign, "of someone else");
  write_tensorboard_events(folder_, until(40));
  std::vector<std::string> list = names();
  std::sort(list.begin(), list.end());
  EXPECT_EQ(list, (std::vector<std::string>{"events.out.tfevents.0000000030.pare",
                                            "events.out.tfevents.0000000040.pare", foreign}));
}

TEST_F(TensorBoardEvents, TakeValuesAndStepsOfAnySize) {
  RunRecord record;
  record.stages.resize(1);
  record.stages[0].seconds = std::numeric_limits<double>::quiet_NaN();
  record.stages[0].steps = INT64_MAX;
  record.stages[0].first_step = INT64_MIN;
  const double huge = std::numeric_limits<double>::max();
  record.series["loss"] = {{-5, -huge}, {INT64_MAX, huge}};
  const std::vector<Event> list = events(record);
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[2].step, -5);
  EXPECT_EQ(list[2].values.at(0).second, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(list[3].step, INT64_MAX);
  EXPECT_EQ(list[3].values.at(0).second, std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace pare::pipeline
