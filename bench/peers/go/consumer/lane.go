package consumer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// laneFetches is how many fetches wait in a lane before polling stops.
	laneFetches = 1
	// retryDelay lies between two calls for the same records.
	retryDelay = time.Second
	// eventBytes and recordBytes are more than the text around the records and around the values of each.
	eventBytes  = 1024
	recordBytes = 160
	// headerBytes is the most that a byte of a header's value, or of its escaped name, takes.
	headerBytes = 6
)

// lane is one partition: its records are delivered in order, a call at a time.
type lane struct {
	consumer *consumer
	encoder  Encoder
	fetched  chan []*kgo.Record
	quit     chan struct{}
	done     chan struct{}
	// rest is what the last call had no room for.
	rest []*kgo.Record
}

func newLane(c *consumer) *lane {
	return &lane{
		consumer: c,
		encoder:  c.newEncoder(c.settings.bootstrap),
		fetched:  make(chan []*kgo.Record, laneFetches),
		quit:     make(chan struct{}),
		done:     make(chan struct{}),
	}
}

func (l *lane) push(records []*kgo.Record) {
	select {
	case l.fetched <- records:
	case <-l.quit:
	}
}

func (l *lane) run(ctx context.Context) {
	defer close(l.done)
	for {
		batch := l.next()
		if batch == nil {
			return
		}
		body, err := l.encoder.Encode(batch)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s-%d at %d: %v\n", batch[0].Topic, batch[0].Partition, batch[0].Offset, err)
			os.Exit(1)
		}
		for err := l.invoke(ctx, body); err != nil; err = l.invoke(ctx, body) {
			fmt.Fprintf(os.Stderr, "%s-%d at %d: %v\n", batch[0].Topic, batch[0].Partition, batch[0].Offset, err)
			select {
			case <-time.After(retryDelay):
			case <-l.quit:
				return
			}
		}
		l.consumer.client.MarkCommitRecords(batch[len(batch)-1])
	}
}

// next takes what waits, as far as one call has room for it, or waits for something; nil at the end.
func (l *lane) next() []*kgo.Record {
	if len(l.rest) == 0 {
		select {
		case l.rest = <-l.fetched:
		case <-l.quit:
			return nil
		}
	}
	select {
	case <-l.quit:
		return nil
	case more := <-l.fetched:
		l.rest = append(l.rest, more...)
	default:
	}
	size, count := eventBytes, 0
	for count < len(l.rest) && count < l.consumer.settings.batchSize {
		size += room(l.rest[count])
		if size > l.consumer.settings.bodyLimit && count > 0 {
			break
		}
		count++
	}
	batch := l.rest[:count]
	l.rest = l.rest[count:]
	return batch
}

func (l *lane) invoke(ctx context.Context, body []byte) error {
	answer, err := l.consumer.functions.Invoke(ctx, &lambda.InvokeInput{
		FunctionName: aws.String(l.consumer.settings.function),
		Payload:      body,
	})
	if err != nil {
		return err
	}
	if answer.FunctionError != nil {
		return errors.New(*answer.FunctionError)
	}
	return nil
}

// room is at least what a record takes in the event.
func room(record *kgo.Record) int {
	size := recordBytes + len(record.Topic) + base64.StdEncoding.EncodedLen(len(record.Key)) + base64.StdEncoding.EncodedLen(len(record.Value))
	for _, header := range record.Headers {
		size += headerBytes * (len(header.Key) + len(header.Value) + 2)
	}
	return size
}
