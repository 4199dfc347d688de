// Creates a topic and waits until each of its partitions has a leader.
//
//     java -cp 'JARS/*' Topic.java BOOTSTRAP TOPIC PARTITIONS [config=value]...

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class Topic {
    public static void main(String[] args) throws Exception {
        Map<String, String> configs = new HashMap<>();
        for (int i = 3; i < args.length; i++) {
            String[] pair = args[i].split("=", 2);
            configs.put(pair[0], pair[1]);
        }
        int partitions = Integer.parseInt(args[2]);
        Map<String, Object> client = Map.of("bootstrap.servers", args[0]);
        try (Admin admin = Admin.create(client)) {
            admin.createTopics(List.of(new NewTopic(args[1], partitions, (short) 1).configs(configs))).all().get();
        }
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(client, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            while (true) {
                List<PartitionInfo> found = consumer.listTopics().get(args[1]);
                if (found != null && found.size() == partitions && found.stream().allMatch(p -> p.leader() != null)) {
                    return;
                }
                Thread.sleep(50);
            }
        }
    }
}
