// Program go is the consumer as most would write it: franz-go, encoding/json, the AWS SDK.
package main

import (
	"encoding/json"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/bench/peers/go/consumer"
)

type event struct {
	EventSource      string              `json:"eventSource"`
	BootstrapServers string              `json:"bootstrapServers"`
	Records          map[string][]record `json:"records"`
}

type record struct {
	Topic         string              `json:"topic"`
	Partition     int32               `json:"partition"`
	Offset        int64               `json:"offset"`
	Timestamp     int64               `json:"timestamp"`
	TimestampType string              `json:"timestampType"`
	Key           []byte              `json:"key,omitzero"`
	Value         []byte              `json:"value,omitzero"`
	Headers       []map[string][]int8 `json:"headers"`
}

type encoder struct {
	bootstrap string
}

func (e encoder) Encode(records []*kgo.Record) ([]byte, error) {
	written := make([]record, len(records))
	for i, r := range records {
		written[i] = record{
			Topic:         r.Topic,
			Partition:     r.Partition,
			Offset:        r.Offset,
			Timestamp:     r.Timestamp.UnixMilli(),
			TimestampType: timestampType(r),
			Key:           r.Key,
			Value:         r.Value,
			Headers:       headers(r.Headers),
		}
	}
	lane := fmt.Sprintf("%s-%d", records[0].Topic, records[0].Partition)
	return json.Marshal(event{"SelfManagedKafka", e.bootstrap, map[string][]record{lane: written}})
}

func timestampType(r *kgo.Record) string {
	if r.Attrs.TimestampType() == 1 {
		return "LOG_APPEND_TIME"
	}
	return "CREATE_TIME"
}

func headers(headers []kgo.RecordHeader) []map[string][]int8 {
	written := make([]map[string][]int8, len(headers))
	for i, header := range headers {
		bytes := make([]int8, len(header.Value))
		for at, value := range header.Value {
			bytes[at] = int8(value)
		}
		written[i] = map[string][]int8{header.Key: bytes}
	}
	return written
}

func main() {
	consumer.Main(func(bootstrap string) consumer.Encoder { return encoder{bootstrap} })
}
