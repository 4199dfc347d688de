// A member of a consumer group by Kafka's own client: commits what it has processed, batch by batch.
//
//     java -cp 'JARS/*' Member.java BOOTSTRAP TOPIC GROUP SESSION_TIMEOUT_MS|consumer ISOLATION [ASSIGNOR]
//
// ASSIGNOR is the class's simple name, CooperativeStickyAssignor without it.
// Says in JSON lines what it owns and what it processed, each before it commits. Leaves the group when standard input closes.

import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Member {
    public static void main(String[] args) throws Exception {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("group.id", args[2]);
        p.put("client.id", "java-member");
        if (args[3].equals("consumer")) {
            // KIP-848: the coordinator tells times, and assigns.
            p.put("group.protocol", "consumer");
        } else {
            p.put("session.timeout.ms", args[3]);
            p.put("heartbeat.interval.ms", String.valueOf(Math.max(100, Integer.parseInt(args[3]) / 5)));
            String assignor = args.length > 5 ? args[5] : "CooperativeStickyAssignor";
            p.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
        }
        p.put("isolation.level", args[4]);
        p.put("enable.auto.commit", "false");
        p.put("auto.offset.reset", "earliest");
        p.put("max.poll.records", "200");
        Thread input = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException ignored) {
                // A closed input ends the run just as well.
            }
        });
        input.setDaemon(true);
        input.start();
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[1]), listener(consumer));
            while (input.isAlive()) {
                process(consumer, consumer.poll(Duration.ofMillis(100)));
            }
        }
        say("left", "");
    }

    static void process(KafkaConsumer<byte[], byte[]> consumer, ConsumerRecords<byte[], byte[]> records) throws Exception {
        if (records.isEmpty()) {
            return;
        }
        Thread.sleep(20);
        for (TopicPartition tp : records.partitions()) {
            List<ConsumerRecord<byte[], byte[]>> batch = records.records(tp);
            long last = batch.get(batch.size() - 1).offset();
            say("processed", ",\"partition\":" + tp.partition() + ",\"first\":" + batch.get(0).offset() + ",\"last\":" + last);
            try {
                consumer.commitSync(Map.of(tp, new OffsetAndMetadata(last + 1)));
            } catch (RebalanceInProgressException | CommitFailedException error) {
                say("uncommitted", ",\"partition\":" + tp.partition());
            }
        }
    }

    static ConsumerRebalanceListener listener(KafkaConsumer<byte[], byte[]> consumer) {
        return new ConsumerRebalanceListener() {
            public void onPartitionsAssigned(Collection<TopicPartition> added) {
                added.forEach(tp -> say("assigned", ",\"partition\":" + tp.partition()));
            }

            public void onPartitionsRevoked(Collection<TopicPartition> gone) {
                // What a commit during the rebalance could not say is said before the partition goes.
                Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
                gone.forEach(tp -> ends.put(tp, new OffsetAndMetadata(consumer.position(tp))));
                consumer.commitSync(ends);
                gone.forEach(tp -> say("revoked", ",\"partition\":" + tp.partition()));
            }
        };
    }

    static void say(String event, String members) {
        System.out.println("{\"event\":\"" + event + "\",\"at\":" + System.currentTimeMillis() + members + "}");
    }
}
