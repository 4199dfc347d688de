// Kafka's own producer, writing records of every kind: no, empty and binary keys; tombstones, empty and large values;
// headers that repeat, are empty or have no value; each codec; transactions committed and aborted.
//
//     java -cp 'JARS/*' Produce.java BOOTSTRAP TOPIC COUNT SEED [RATE [WITHOUT]]
//
// COUNT counts what a reader of committed records will see, and one in 5,000 has a value of a megabyte or more; 0 means until
// standard input closes. RATE is records a second, 0 for as fast as it goes. WITHOUT names what the broker or the topic's format
// does not have, joined by commas: headers, transactions, zstd; and `patience`, if no broker is to be waited for long. The last
// line says how many were committed and how many aborted, as JSON.

import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Produce {
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final String[] HEADER_KEYS = {"trace", "", "content-type", "name \"quoted\" \\ \n", "schl\u00fcssel \u6c34 \ud83d\ude80"};

    final Random random;
    final String topic;
    final int partitions;
    final boolean hasHeaders;
    final List<KafkaProducer<byte[], byte[]>> plain = new ArrayList<>();
    final List<KafkaProducer<byte[], byte[]>> transactional = new ArrayList<>();
    final AtomicReference<Exception> failure = new AtomicReference<>();
    long committed = 0;
    long aborted = 0;
    long largeAt = Long.MAX_VALUE;

    Produce(String bootstrap, String topic, long seed, Set<String> without) {
        this.random = new Random(seed);
        this.topic = topic;
        this.hasHeaders = !without.contains("headers");
        for (String codec : CODECS) {
            if (without.contains(codec)) {
                continue;
            }
            plain.add(producer(bootstrap, codec, null, !without.contains("patience")));
            if (!without.contains("transactions")) {
                transactional.add(producer(bootstrap, codec, topic + "-" + codec + "-" + seed, true));
            }
        }
        transactional.forEach(KafkaProducer::initTransactions);
        this.partitions = plain.get(0).partitionsFor(topic).size();
    }

    static KafkaProducer<byte[], byte[]> producer(String bootstrap, String codec, String transactionalId, boolean isPatient) {
        Properties p = new Properties();
        p.put("bootstrap.servers", bootstrap);
        p.put("compression.type", codec);
        p.put("linger.ms", "5");
        p.put("acks", "all");
        p.put("max.request.size", "12582912");
        if (!isPatient) {
            // A frozen leader is left as soon as there is another. What it may have written is not written twice.
            p.put("request.timeout.ms", "3000");
            p.put("enable.idempotence", "true");
        }
        if (transactionalId != null) {
            p.put("transactional.id", transactionalId);
        }
        return new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
    }

    public static void main(String[] args) throws Exception {
        Set<String> without = args.length > 5 ? Set.of(args[5].split(",")) : Set.of();
        Produce produce = new Produce(args[0], args[1], Long.parseLong(args[3]), without);
        long count = Long.parseLong(args[2]);
        double rate = args.length > 4 ? Double.parseDouble(args[4]) : 0;
        Thread input = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (java.io.IOException ignored) {
                // A closed input ends the run just as well.
            }
        });
        input.setDaemon(true);
        input.start();
        produce.run(count, rate, input);
        System.out.println("{\"committed\":" + produce.committed + ",\"aborted\":" + produce.aborted + "}");
        System.exit(0);
    }

    void run(long count, double rate, Thread input) throws Exception {
        long start = System.nanoTime();
        largeAt = count > 0 ? 2_500 : Long.MAX_VALUE;
        while (count > 0 ? committed < count : input.isAlive()) {
            int longest = rate > 0 ? (int) Math.max(1, Math.min(200, rate / 20)) : 200;
            int n = 1 + random.nextInt(longest);
            if (count > 0) {
                n = (int) Math.min(n, count - committed);
            }
            burst(n);
            if (rate > 0) {
                long due = start + (long) ((committed + aborted) / rate * 1e9);
                Thread.sleep(Math.max(0, (due - System.nanoTime()) / 1_000_000));
            }
            if (failure.get() != null) {
                throw failure.get();
            }
        }
        plain.forEach(KafkaProducer::close);
        transactional.forEach(KafkaProducer::close);
    }

    void burst(int n) {
        int codec = random.nextInt(plain.size());
        if (random.nextInt(4) > 0 || transactional.isEmpty()) {
            send(plain.get(codec), n);
            committed += n;
            return;
        }
        KafkaProducer<byte[], byte[]> producer = transactional.get(codec);
        producer.beginTransaction();
        send(producer, n);
        if (random.nextInt(3) > 0) {
            producer.commitTransaction();
            committed += n;
        } else {
            producer.flush(); // So that what is aborted has reached the log.
            producer.abortTransaction();
            aborted += n;
        }
    }

    void send(KafkaProducer<byte[], byte[]> producer, int n) {
        for (int i = 0; i < n; i++) {
            Long timestamp = random.nextInt(10) == 0 ? Long.valueOf(1_600_000_000_000L + random.nextInt()) : null;
            ProducerRecord<byte[], byte[]> record =
                    new ProducerRecord<>(topic, random.nextInt(partitions), timestamp, key(), value(), headers());
            producer.send(record, (metadata, error) -> {
                if (error != null) {
                    failure.compareAndSet(null, error);
                }
            });
        }
    }

    byte[] key() {
        switch (random.nextInt(4)) {
            case 0: return null;
            case 1: return random.nextInt(4) == 0 ? new byte[0] : bytes(1 + random.nextInt(8));
            default: return ("key-" + random.nextInt(1000)).getBytes();
        }
    }

    byte[] value() {
        if (committed + aborted >= largeAt) {
            largeAt += 5_000;
            return bytes(1_000_000 + random.nextInt(2_000_000));
        }
        switch (random.nextInt(20)) {
            case 0: return null;
            case 1: return new byte[0];
            case 2: return bytes(random.nextInt(50) == 0 ? 20_000 : 700);
            case 3: return bytes(random.nextInt(100));
            default: return ("{\"order\":" + random.nextLong() + ",\"state\":\"" + "paid ".repeat(random.nextInt(40)) + "\"}").getBytes();
        }
    }

    List<Header> headers() {
        if (!hasHeaders || random.nextInt(3) > 0) {
            return List.of();
        }
        List<Header> headers = new ArrayList<>();
        for (int i = random.nextInt(5); i >= 0; i--) {
            byte[] value = random.nextInt(6) == 0 ? null : bytes(random.nextInt(6));
            headers.add(new RecordHeader(HEADER_KEYS[random.nextInt(HEADER_KEYS.length)], value));
        }
        return headers;
    }

    byte[] bytes(int n) {
        byte[] b = new byte[n];
        random.nextBytes(b);
        return b;
    }
}
