package peer;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executor;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.core.exception.SdkException;
import software.amazon.awssdk.services.lambda.LambdaClient;
import software.amazon.awssdk.services.lambda.model.InvokeResponse;

/** One partition: its records are delivered in order, a call at a time, by whichever thread is free. */
final class Lane {
    private static final long RETRY_MILLIS = 1000;

    /** A lane with more than this waiting is paused: the next call has enough. */
    private static final int ENOUGH_RECORDS = 10_000;

    private static final int ENOUGH_BYTES = 3 << 20;

    private final Settings settings;
    private final LambdaClient functions;
    private final Executor threads;
    private final Runnable hasRoom;
    private final EventWriter writer;
    private final ArrayDeque<ConsumerRecord<byte[], byte[]>> waiting = new ArrayDeque<>();
    private long waitingBytes;
    private boolean isRunning;
    private boolean isClosed;
    /** The offset to commit, or -1 where there is nothing new. */
    private long processed = -1;

    Lane(Settings settings, TopicPartition partition, LambdaClient functions, Executor threads, Runnable hasRoom) {
        this.settings = settings;
        this.functions = functions;
        this.threads = threads;
        this.hasRoom = hasRoom;
        this.writer = new EventWriter(settings.bootstrap(), partition);
    }

    synchronized void add(List<ConsumerRecord<byte[], byte[]>> records) {
        for (ConsumerRecord<byte[], byte[]> record : records) {
            waiting.add(record);
            waitingBytes += EventWriter.room(record);
        }
        if (!isRunning) {
            isRunning = true;
            threads.execute(this::run);
        }
    }

    synchronized boolean hasEnough() {
        return waiting.size() >= ENOUGH_RECORDS || waitingBytes >= ENOUGH_BYTES;
    }

    /** What has been processed since this was last asked, as the offset to commit, or -1. */
    synchronized long takeProcessed() {
        long taken = processed;
        processed = -1;
        return taken;
    }

    /** Lets the call in flight end, and no other begin. */
    synchronized void close() throws InterruptedException {
        isClosed = true;
        while (isRunning) {
            wait();
        }
    }

    private void run() {
        try {
            for (List<ConsumerRecord<byte[], byte[]>> batch = next(); batch != null; batch = next()) {
                deliver(batch);
            }
        } catch (InterruptedException | RuntimeException error) {
            error.printStackTrace();
            System.exit(1);
        }
    }

    /** What waits, as far as one call has room for it; null when nothing does. */
    private synchronized List<ConsumerRecord<byte[], byte[]>> next() {
        if (waiting.isEmpty() || isClosed) {
            isRunning = false;
            notifyAll();
            return null;
        }
        boolean hadEnough = hasEnough();
        List<ConsumerRecord<byte[], byte[]>> batch = new ArrayList<>(Math.min(waiting.size(), settings.batchSize()));
        long size = EventWriter.EVENT_BYTES;
        while (!waiting.isEmpty() && batch.size() < settings.batchSize()) {
            int room = EventWriter.room(waiting.peek());
            size += room;
            if (size > settings.bodyLimit() && !batch.isEmpty()) {
                break;
            }
            waitingBytes -= room;
            batch.add(waiting.poll());
        }
        if (hadEnough && !hasEnough()) {
            hasRoom.run();
        }
        return batch;
    }

    private void deliver(List<ConsumerRecord<byte[], byte[]>> batch) throws InterruptedException {
        SdkBytes body;
        try {
            body = SdkBytes.fromByteArrayUnsafe(writer.write(batch));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        while (!invoke(body)) {
            Thread.sleep(RETRY_MILLIS);
            synchronized (this) {
                if (isClosed) {
                    return;
                }
            }
        }
        synchronized (this) {
            processed = batch.get(batch.size() - 1).offset() + 1;
        }
    }

    private boolean invoke(SdkBytes body) {
        try {
            InvokeResponse answer =
                    functions.invoke(call -> call.functionName(settings.function()).payload(body));
            if (answer.functionError() == null) {
                return true;
            }
            System.err.println(answer.functionError());
        } catch (SdkException error) {
            System.err.println(error);
        }
        return false;
    }
}
