// Package consumer carries the records of a topic into a Lambda function, in order within each partition, at
// least once: one call in flight per partition, an offset marked for commit after its call has succeeded.
//
// The two programs that use it differ in the Encoder alone.
package consumer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Encoder writes records of one partition as an event. What it returns is its own again at the next call.
type Encoder interface {
	Encode(records []*kgo.Record) ([]byte, error)
}

// fetchPartitionBytes is what one fetch brings of a partition at most: with franz-go's 1 MiB a call would never
// be near Lambda's limit.
const fetchPartitionBytes = 2 << 20

// httpBufferBytes is what the transport writes at a time: its default of 4 KiB is for small bodies.
const httpBufferBytes = 64 << 10

type settings struct {
	bootstrap, topic, group, endpoint, function string
	batchSize, bodyLimit                        int
}

type partition struct {
	topic  string
	number int32
}

type consumer struct {
	settings   settings
	newEncoder func(bootstrap string) Encoder
	client     *kgo.Client
	functions  *lambda.Client
	lanes      map[partition]*lane
	running    sync.WaitGroup
}

// Main runs until a signal ends it.
func Main(newEncoder func(bootstrap string) Encoder) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, newEncoder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, newEncoder func(string) Encoder) error {
	settings, err := fromEnvironment()
	if err != nil {
		return err
	}
	functions, err := newFunctions(ctx, settings)
	if err != nil {
		return err
	}
	c := &consumer{settings: settings, newEncoder: newEncoder, functions: functions, lanes: map[partition]*lane{}}
	c.client, err = kgo.NewClient(
		kgo.SeedBrokers(settings.bootstrap),
		kgo.ConsumeTopics(settings.topic),
		kgo.ConsumerGroup(settings.group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(time.Second),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(c.assigned),
		kgo.OnPartitionsRevoked(c.revoked),
		kgo.OnPartitionsLost(c.lost),
	)
	if err != nil {
		return err
	}
	defer c.client.CloseAllowingRebalance()
	return c.poll(ctx)
}

func (c *consumer) poll(ctx context.Context) error {
	for {
		fetches := c.client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return nil
		}
		fetches.EachError(func(topic string, number int32, err error) {
			fmt.Fprintf(os.Stderr, "%s-%d: %v\n", topic, number, err)
		})
		fetches.EachPartition(func(fetched kgo.FetchTopicPartition) {
			if len(fetched.Records) > 0 {
				// Blocks while the lane has enough: no more is fetched meanwhile, so memory is bounded.
				c.lanes[partition{fetched.Topic, fetched.Partition}].push(fetched.Records)
			}
		})
		c.client.AllowRebalance()
	}
}

func (c *consumer) assigned(ctx context.Context, _ *kgo.Client, assigned map[string][]int32) {
	for topic, numbers := range assigned {
		for _, number := range numbers {
			lane := newLane(c)
			c.lanes[partition{topic, number}] = lane
			c.running.Add(1)
			go func() {
				defer c.running.Done()
				lane.run(ctx)
			}()
		}
	}
}

// revoked lets the calls in flight end, and commits what they have processed, before others have the partitions.
func (c *consumer) revoked(ctx context.Context, client *kgo.Client, revoked map[string][]int32) {
	c.lost(ctx, client, revoked)
	if err := client.CommitMarkedOffsets(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "commit: %v\n", err)
	}
}

func (c *consumer) lost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	var ended []*lane
	for topic, numbers := range lost {
		for _, number := range numbers {
			at := partition{topic, number}
			if lane, ok := c.lanes[at]; ok {
				delete(c.lanes, at)
				close(lane.quit)
				ended = append(ended, lane)
			}
		}
	}
	for _, lane := range ended {
		<-lane.done
	}
}

func newFunctions(ctx context.Context, settings settings) (*lambda.Client, error) {
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(transport *http.Transport) {
		transport.WriteBufferSize = httpBufferBytes
		transport.MaxIdleConnsPerHost = 64
	})
	loaded, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(transport))
	if err != nil {
		return nil, err
	}
	return lambda.NewFromConfig(loaded, func(options *lambda.Options) {
		options.BaseEndpoint = aws.String(settings.endpoint)
	}), nil
}

func fromEnvironment() (settings, error) {
	var problems []error
	text := func(name string) string {
		value := os.Getenv(name)
		if value == "" {
			problems = append(problems, fmt.Errorf("%s is not set", name))
		}
		return value
	}
	number := func(name string) int {
		value, err := strconv.Atoi(text(name))
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name, err))
		}
		return value
	}
	read := settings{
		bootstrap: text("PEER_BOOTSTRAP"),
		topic:     text("PEER_TOPIC"),
		group:     text("PEER_GROUP"),
		endpoint:  text("PEER_ENDPOINT_URL"),
		function:  text("PEER_FUNCTION"),
		batchSize: number("PEER_BATCH_SIZE"),
		bodyLimit: number("PEER_BODY_LIMIT"),
	}
	return read, errors.Join(problems...)
}
