// What Kafka's own consumer reads of a topic, from the first to the last of each partition.
//
//     java -cp 'JARS/*' Verify.java BOOTSTRAP TOPIC read_committed|read_uncommitted
//
// One line for each record, as AWS's event would show it.

import java.io.PrintStream;
import java.io.BufferedOutputStream;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Verify {
    public static void main(String[] args) {
        Properties p = new Properties();
        p.put("bootstrap.servers", args[0]);
        p.put("isolation.level", args[2]);
        p.put("enable.auto.commit", "false");
        p.put("max.poll.records", "5000");
        PrintStream out = new PrintStream(new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 20));
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> all = consumer.partitionsFor(args[1]).stream()
                    .map(i -> new TopicPartition(args[1], i.partition())).collect(Collectors.toList());
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            while (all.stream().anyMatch(tp -> consumer.position(tp) < ends.get(tp))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    if (record.offset() < ends.get(new TopicPartition(record.topic(), record.partition()))) {
                        out.println(line(record));
                    }
                }
            }
        }
        out.flush();
    }

    static String line(ConsumerRecord<byte[], byte[]> r) {
        StringBuilder s = new StringBuilder("{\"topic\":");
        string(s, r.topic());
        s.append(",\"partition\":").append(r.partition()).append(",\"offset\":").append(r.offset());
        s.append(",\"timestamp\":").append(r.timestamp()).append(",\"timestampType\":\"");
        s.append(r.timestampType() == TimestampType.CREATE_TIME ? "CREATE_TIME"
                : r.timestampType() == TimestampType.LOG_APPEND_TIME ? "LOG_APPEND_TIME" : "NO_TIMESTAMP_TYPE").append('"');
        member(s, "key", r.key());
        member(s, "value", r.value());
        s.append(",\"headers\":[");
        String comma = "";
        for (Header header : r.headers()) {
            s.append(comma).append('{');
            string(s, header.key());
            s.append(":[");
            byte[] value = header.value() == null ? new byte[0] : header.value();
            for (int i = 0; i < value.length; i++) {
                s.append(i == 0 ? "" : ",").append(value[i]);
            }
            s.append("]}");
            comma = ",";
        }
        return s.append("]}").toString();
    }

    static void member(StringBuilder s, String name, byte[] bytes) {
        if (bytes != null) {
            s.append(",\"").append(name).append("\":\"").append(Base64.getEncoder().encodeToString(bytes)).append('"');
        }
    }

    static void string(StringBuilder s, String text) {
        s.append('"');
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                s.append('\\').append(c);
            } else if (c < ' ' || c > '~') {
                s.append(String.format("\\u%04x", (int) c));
            } else {
                s.append(c);
            }
        }
        s.append('"');
    }
}
