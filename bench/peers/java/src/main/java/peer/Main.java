package peer;

import java.net.URI;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import software.amazon.awssdk.http.apache.ApacheHttpClient;
import software.amazon.awssdk.services.lambda.LambdaClient;

/**
 * Carries the records of a topic into a Lambda function, in order within each partition, at least once: one call in
 * flight per partition, an offset committed after its call has succeeded.
 */
final class Main implements ConsumerRebalanceListener {
    private static final Duration POLL = Duration.ofSeconds(1);
    private static final long COMMIT_NANOS = Duration.ofSeconds(1).toNanos();
    private static final int CONNECTIONS = 64;

    private final Settings settings;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final LambdaClient functions;
    private final ExecutorService threads = Executors.newCachedThreadPool();
    private final Map<TopicPartition, Lane> lanes = new HashMap<>();
    private volatile boolean isStopping;
    private long committedAt = System.nanoTime();

    private Main(Settings settings) {
        this.settings = settings;
        this.consumer = new KafkaConsumer<>(properties(settings));
        this.functions = LambdaClient.builder()
                .endpointOverride(URI.create(settings.endpointUrl()))
                .httpClientBuilder(ApacheHttpClient.builder().maxConnections(CONNECTIONS))
                .build();
    }

    public static void main(String[] arguments) throws InterruptedException {
        Main main = new Main(Settings.fromEnvironment());
        Thread running = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            main.isStopping = true;
            main.consumer.wakeup();
            try {
                running.join();
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        }));
        main.run();
    }

    private static Properties properties(Settings settings) {
        Properties properties = new Properties();
        properties.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, settings.bootstrap());
        properties.put(ConsumerConfig.GROUP_ID_CONFIG, settings.group());
        properties.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        properties.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        properties.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        properties.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
        properties.put(
                ConsumerConfig.PARTITION_ASSIGNMENT_STRATEGY_CONFIG, CooperativeStickyAssignor.class.getName());
        properties.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, settings.batchSize());
        properties.put(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 2 << 20);
        return properties;
    }

    private void run() throws InterruptedException {
        consumer.subscribe(List.of(settings.topic()), this);
        while (!isStopping) {
            try {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(POLL);
                for (TopicPartition partition : records.partitions()) {
                    lanes.get(partition).add(records.records(partition));
                }
            } catch (WakeupException woken) {
                // A lane has room again, or it is the end.
            }
            regulate();
            if (System.nanoTime() - committedAt > COMMIT_NANOS) {
                committedAt = System.nanoTime();
                consumer.commitAsync(processed(lanes.keySet()), null);
            }
        }
        onPartitionsRevoked(new ArrayList<>(lanes.keySet()));
        consumer.close();
        threads.shutdown();
    }

    /** What is fetched for a paused partition is kept by the consumer. */
    private void regulate() {
        List<TopicPartition> full = new ArrayList<>();
        List<TopicPartition> free = new ArrayList<>();
        lanes.forEach((partition, lane) -> (lane.hasEnough() ? full : free).add(partition));
        consumer.pause(full);
        consumer.resume(free);
    }

    private Map<TopicPartition, OffsetAndMetadata> processed(Collection<TopicPartition> partitions) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (TopicPartition partition : partitions) {
            long offset = lanes.get(partition).takeProcessed();
            if (offset >= 0) {
                offsets.put(partition, new OffsetAndMetadata(offset));
            }
        }
        return offsets;
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> assigned) {
        for (TopicPartition partition : assigned) {
            lanes.put(partition, new Lane(settings, partition, functions, threads, consumer::wakeup));
        }
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
        close(revoked);
        Map<TopicPartition, OffsetAndMetadata> offsets = processed(revoked);
        try {
            consumer.commitSync(offsets);
        } catch (WakeupException woken) {
            // A lane had room again just before it was closed.
            consumer.commitSync(offsets);
        }
        revoked.forEach(lanes::remove);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> lost) {
        close(lost);
        lost.forEach(lanes::remove);
    }

    private void close(Collection<TopicPartition> partitions) {
        try {
            for (TopicPartition partition : partitions) {
                lanes.get(partition).close();
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }
}
