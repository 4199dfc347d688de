// An administrator of a cluster: takes commands on standard input, one a line, and answers each with a line.
//
//     java -cp 'JARS/*' Control.java BOOTSTRAP,...
//
//     create TOPIC PARTITIONS REPLICAS [config=value]...     done when each partition has a leader
//     delete TOPIC | grow TOPIC PARTITIONS | configure TOPIC config=value...
//     leaders TOPIC            the node that leads each partition, 0 for none
//     lead TOPIC NODE          every partition of it has its leader there
//     spread TOPIC             each node leads its share, and all replicas are in sync
//     place TOPIC NODE,...     every partition of it has its replicas there
//     unclean TOPIC            whoever lives leads
//     trim TOPIC PARTITION OFFSET      the log begins there (-1: it is emptied)
//     coordinator GROUP        the node that is the group's
//     throttle CLIENT BYTES    what a client (`-`: any) may be sent a second, 0 for no limit
//
// It is run from its source, since the older clients that the rig's other programs are compiled against lack half of this.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;

public class Control {
    final Admin admin;

    Control(String bootstrap) {
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "request.timeout.ms", "5000", "default.api.timeout.ms", "60000",
                "reconnect.backoff.max.ms", "500"));
    }

    public static void main(String[] args) throws Exception {
        Control control = new Control(args[0]);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                System.out.println(control.obey(line.split(" ")));
            } catch (Exception e) {
                System.out.println("error: " + e);
            }
        }
        System.exit(0);
    }

    String obey(String[] words) throws Exception {
        String topic = words[1];
        switch (words[0]) {
            case "create": {
                int partitions = Integer.parseInt(words[2]);
                admin.createTopics(List.of(new NewTopic(topic, partitions, Short.parseShort(words[3])).configs(configs(words, 4)))).all().get();
                await(() -> partitions(topic).size() == partitions && leaders(topic).stream().allMatch(leader -> leader > 0));
                return "done";
            }
            case "delete":
                admin.deleteTopics(List.of(topic)).all().get();
                return "done";
            case "grow":
                admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(Integer.parseInt(words[2])))).all().get();
                return "done";
            case "configure": {
                List<AlterConfigOp> ops = configs(words, 2).entrySet().stream()
                        .map(e -> new AlterConfigOp(new ConfigEntry(e.getKey(), e.getValue()), AlterConfigOp.OpType.SET))
                        .collect(Collectors.toList());
                admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.TOPIC, topic), ops)).all().get();
                return "done";
            }
            case "leaders":
                return leaders(topic).stream().map(String::valueOf).collect(Collectors.joining(" "));
            case "lead":
                lead(topic, Integer.parseInt(words[2]));
                return "done";
            case "spread":
                spread(topic);
                return "done";
            case "place":
                place(topic, Arrays.stream(words[2].split(",")).map(Integer::valueOf).collect(Collectors.toList()));
                return "done";
            case "unclean":
                // Whether it is needed and who lives may not be known yet: the caller looks, and asks again.
                admin.electLeaders(ElectionType.UNCLEAN, all(topic)).partitions().get();
                return "done";
            case "trim": {
                TopicPartition partition = new TopicPartition(topic, Integer.parseInt(words[2]));
                return String.valueOf(admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(Long.parseLong(words[3]))))
                        .lowWatermarks().get(partition).get().lowWatermark());
            }
            case "coordinator":
                return String.valueOf(admin.describeConsumerGroups(List.of(topic)).all().get().get(topic).coordinator().id());
            case "throttle":
                throttle(topic, Double.parseDouble(words[2]));
                return "done";
            default:
                throw new IllegalArgumentException("no command " + words[0]);
        }
    }

    Map<String, String> configs(String[] words, int from) {
        Map<String, String> configs = new HashMap<>();
        for (int i = from; i < words.length; i++) {
            String[] pair = words[i].split("=", 2);
            configs.put(pair[0], pair[1]);
        }
        return configs;
    }

    List<TopicPartitionInfo> partitions(String topic) throws Exception {
        Map<String, TopicDescription> found = admin.describeTopics(List.of(topic)).allTopicNames().get();
        return found.get(topic).partitions();
    }

    List<Integer> leaders(String topic) throws Exception {
        return partitions(topic).stream().map(p -> p.leader() == null || p.leader().isEmpty() ? 0 : p.leader().id()).collect(Collectors.toList());
    }

    Set<TopicPartition> all(String topic) throws Exception {
        return partitions(topic).stream().map(p -> new TopicPartition(topic, p.partition())).collect(Collectors.toSet());
    }

    void lead(String topic, int node) throws Exception {
        Map<Integer, Integer> wanted = new HashMap<>();
        for (TopicPartitionInfo p : partitions(topic)) {
            wanted.put(p.partition(), node);
        }
        lead(topic, wanted);
    }

    void spread(String topic) throws Exception {
        await(() -> partitions(topic).stream().allMatch(p -> p.isr().size() == p.replicas().size()));
        Map<Integer, Integer> wanted = new HashMap<>();
        for (TopicPartitionInfo p : partitions(topic)) {
            List<Integer> nodes = p.replicas().stream().map(Node::id).sorted().collect(Collectors.toList());
            wanted.put(p.partition(), nodes.get(p.partition() % nodes.size()));
        }
        lead(topic, wanted);
    }

    /** A reassignment that changes the order of replicas alone, and the election of the first. */
    void lead(String topic, Map<Integer, Integer> wanted) throws Exception {
        Map<TopicPartition, Optional<NewPartitionReassignment>> moves = new HashMap<>();
        for (TopicPartitionInfo p : partitions(topic)) {
            List<Integer> replicas = p.replicas().stream().map(Node::id).collect(Collectors.toCollection(ArrayList::new));
            Integer first = wanted.get(p.partition());
            replicas.remove(first);
            replicas.add(0, first);
            moves.put(new TopicPartition(topic, p.partition()), Optional.of(new NewPartitionReassignment(replicas)));
        }
        admin.alterPartitionReassignments(moves).all().get();
        await(() -> {
            admin.electLeaders(ElectionType.PREFERRED, moves.keySet()).partitions().get();
            return partitions(topic).stream().allMatch(p -> p.leader() != null && p.leader().id() == wanted.get(p.partition()));
        });
    }

    void place(String topic, List<Integer> replicas) throws Exception {
        Map<TopicPartition, Optional<NewPartitionReassignment>> moves = new HashMap<>();
        for (TopicPartition p : all(topic)) {
            moves.put(p, Optional.of(new NewPartitionReassignment(replicas)));
        }
        admin.alterPartitionReassignments(moves).all().get();
        await(() -> admin.listPartitionReassignments().reassignments().get().isEmpty());
    }

    void throttle(String client, double bytes) throws Exception {
        ClientQuotaEntity entity = new ClientQuotaEntity(Collections.singletonMap(ClientQuotaEntity.CLIENT_ID, client.equals("-") ? null : client));
        List<ClientQuotaAlteration.Op> ops = List.of(new ClientQuotaAlteration.Op("consumer_byte_rate", bytes > 0 ? bytes : null));
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, ops))).all().get();
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    void await(Condition condition) throws Exception {
        long deadline = System.nanoTime() + 60_000_000_000L;
        Exception last = null;
        while (System.nanoTime() < deadline) {
            try {
                if (condition.holds()) {
                    return;
                }
            } catch (Exception e) {
                last = e;
            }
            Thread.sleep(100);
        }
        throw new IllegalStateException("did not come to hold within 60 s", last);
    }
}
