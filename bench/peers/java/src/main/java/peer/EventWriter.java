package peer;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;

/** Writes records of one partition as an event, by Jackson's streaming writer. */
final class EventWriter {
    /** More than the text around the records, and around the values of each. */
    static final int EVENT_BYTES = 1024;

    private static final int RECORD_BYTES = 160;

    /** The most that a byte of a header's value, or of its escaped name, takes. */
    private static final int HEADER_BYTES = 6;

    private static final JsonFactory JSON = new JsonFactory();

    private final String bootstrap;
    private final TopicPartition partition;
    private final Body body = new Body();

    EventWriter(String bootstrap, TopicPartition partition) {
        this.bootstrap = bootstrap;
        this.partition = partition;
    }

    /** The event, in an array of just its size. */
    byte[] write(List<ConsumerRecord<byte[], byte[]>> records) throws IOException {
        body.reset();
        try (JsonGenerator json = JSON.createGenerator(body)) {
            json.writeStartObject();
            json.writeStringField("eventSource", "SelfManagedKafka");
            json.writeStringField("bootstrapServers", bootstrap);
            json.writeObjectFieldStart("records");
            json.writeArrayFieldStart(partition.toString());
            for (ConsumerRecord<byte[], byte[]> record : records) {
                write(json, record);
            }
            json.writeEndArray();
            json.writeEndObject();
            json.writeEndObject();
        }
        return body.toByteArray();
    }

    private static void write(JsonGenerator json, ConsumerRecord<byte[], byte[]> record) throws IOException {
        json.writeStartObject();
        json.writeStringField("topic", record.topic());
        json.writeNumberField("partition", record.partition());
        json.writeNumberField("offset", record.offset());
        json.writeNumberField("timestamp", record.timestamp());
        boolean appended = record.timestampType() == TimestampType.LOG_APPEND_TIME;
        json.writeStringField("timestampType", appended ? "LOG_APPEND_TIME" : "CREATE_TIME");
        if (record.key() != null) {
            json.writeBinaryField("key", record.key());
        }
        if (record.value() != null) {
            json.writeBinaryField("value", record.value());
        }
        json.writeArrayFieldStart("headers");
        for (Header header : record.headers()) {
            json.writeStartObject();
            json.writeArrayFieldStart(header.key());
            if (header.value() != null) {
                for (byte value : header.value()) {
                    json.writeNumber(value);
                }
            }
            json.writeEndArray();
            json.writeEndObject();
        }
        json.writeEndArray();
        json.writeEndObject();
    }

    /** At least what a record takes in the event. */
    static int room(ConsumerRecord<byte[], byte[]> record) {
        int size = RECORD_BYTES + record.topic().length() + base64(record.key()) + base64(record.value());
        for (Header header : record.headers()) {
            int value = header.value() == null ? 0 : header.value().length;
            // Of a name in UTF-16, a unit takes at most three bytes or an escape of six.
            size += HEADER_BYTES * (header.key().length() + value + 2);
        }
        return size;
    }

    private static int base64(byte[] bytes) {
        return bytes == null ? 0 : (bytes.length + 2) / 3 * 4;
    }

    /** Keeps its room from event to event. */
    private static final class Body extends ByteArrayOutputStream {
        Body() {
            super(1 << 20);
        }
    }
}
