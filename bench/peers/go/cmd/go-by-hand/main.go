// Program go-by-hand is the consumer with the JSON written by hand into a buffer that is used again, and base64
// by AVX2.
package main

import (
	"encoding/json"
	"strconv"

	"github.com/segmentio/asm/base64"
	"github.com/twmb/franz-go/pkg/kgo"

	"forebay/bench/peers/go/consumer"
)

type encoder struct {
	bootstrap []byte
	// prefix is the text from a record's beginning to its offset, the same for all of a partition.
	prefix []byte
	body   []byte
}

func newEncoder(bootstrap string) consumer.Encoder {
	quoted, err := json.Marshal(bootstrap)
	if err != nil {
		panic(err) // A string always has a form.
	}
	return &encoder{bootstrap: quoted}
}

func (e *encoder) Encode(records []*kgo.Record) ([]byte, error) {
	topic, number := records[0].Topic, int64(records[0].Partition)
	if e.prefix == nil {
		e.prefix = append(e.prefix, `,{"topic":"`...)
		e.prefix = append(e.prefix, topic...)
		e.prefix = append(e.prefix, `","partition":`...)
		e.prefix = strconv.AppendInt(e.prefix, number, 10)
		e.prefix = append(e.prefix, `,"offset":`...)
	}
	body := append(e.body[:0], `{"eventSource":"SelfManagedKafka","bootstrapServers":`...)
	body = append(body, e.bootstrap...)
	body = append(body, `,"records":{"`...)
	body = append(body, topic...)
	body = append(body, '-')
	body = strconv.AppendInt(body, number, 10)
	body = append(body, `":[`...)
	prefix := e.prefix[1:]
	for _, record := range records {
		body = append(body, prefix...)
		body = appendRecord(body, record)
		prefix = e.prefix
	}
	e.body = append(body, "]}}"...)
	return e.body, nil
}

// appendRecord writes what follows the prefix.
func appendRecord(body []byte, record *kgo.Record) []byte {
	body = strconv.AppendInt(body, record.Offset, 10)
	body = append(body, `,"timestamp":`...)
	body = strconv.AppendInt(body, record.Timestamp.UnixMilli(), 10)
	if record.Attrs.TimestampType() == 1 {
		body = append(body, `,"timestampType":"LOG_APPEND_TIME"`...)
	} else {
		body = append(body, `,"timestampType":"CREATE_TIME"`...)
	}
	if record.Key != nil {
		body = append(body, `,"key":"`...)
		body = appendBase64(body, record.Key)
		body = append(body, '"')
	}
	if record.Value != nil {
		body = append(body, `,"value":"`...)
		body = appendBase64(body, record.Value)
		body = append(body, '"')
	}
	body = append(body, `,"headers":[`...)
	for i, header := range record.Headers {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendHeader(body, header)
	}
	return append(body, "]}"...)
}

func appendBase64(body, bytes []byte) []byte {
	length := base64.StdEncoding.EncodedLen(len(bytes))
	from := len(body)
	if cap(body)-from < length {
		grown := make([]byte, from, 2*cap(body)+length)
		copy(grown, body)
		body = grown
	}
	body = body[:from+length]
	base64.StdEncoding.Encode(body[from:], bytes)
	return body
}

func appendHeader(body []byte, header kgo.RecordHeader) []byte {
	name, err := json.Marshal(header.Key)
	if err != nil {
		panic(err) // A string always has a form.
	}
	body = append(body, '{')
	body = append(body, name...)
	body = append(body, ":["...)
	for i, value := range header.Value {
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendInt(body, int64(int8(value)), 10)
	}
	return append(body, "]}"...)
}

func main() {
	consumer.Main(newEncoder)
}
