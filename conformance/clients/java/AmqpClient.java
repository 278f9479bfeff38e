// RabbitMQ's Java client.

import com.rabbitmq.client.*;
import com.rabbitmq.client.AMQP.BasicProperties;
import java.io.IOException;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.Collectors;

public class AmqpClient {
    static final String URL = System.getenv("AMQP_URL");
    static final Random RANDOM = new Random();

    /** A connection with one channel. */
    static class Opened implements AutoCloseable {
        final Connection connection;
        final Channel channel;

        Opened(ConnectionFactory factory) throws Exception {
            connection = factory.newConnection();
            channel = connection.createChannel();
        }

        String declared(Map<String, Object> arguments) throws IOException {
            return declared("", arguments);
        }

        /** A queue that goes with its connection. */
        String declared(String queue, Map<String, Object> arguments) throws IOException {
            return channel.queueDeclare(queue, false, true, false, arguments).getQueue();
        }

        void publish(String queue, String body, BasicProperties properties) throws IOException {
            channel.basicPublish("", queue, properties, body.getBytes());
        }

        BlockingQueue<Delivery> consume(String queue, boolean autoAck) throws IOException {
            BlockingQueue<Delivery> inbox = new LinkedBlockingQueue<>();
            channel.basicConsume(queue, autoAck, (tag, delivery) -> inbox.add(delivery), tag -> { });
            return inbox;
        }

        String get(String queue) throws IOException {
            GetResponse message = channel.basicGet(queue, true);
            return message == null ? null : new String(message.getBody());
        }

        long ready(String queue) throws IOException {
            return channel.messageCount(queue);
        }

        public void close() throws IOException {
            if (connection.isOpen()) {
                connection.close();
            }
        }
    }

    interface Check {
        void run(Opened client) throws Exception;
    }

    static final Map<String, Check> CHECKS = new LinkedHashMap<>();

    static ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(URL);
        return factory;
    }

    static Opened opened() throws Exception {
        return new Opened(factory());
    }

    /** A name that no other check and no other run uses. */
    static String name(String word) {
        return word + "-" + UUID.randomUUID();
    }

    static void expect(Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            throw new AssertionError("got " + got + " and not " + wanted);
        }
    }

    static <T> T take(BlockingQueue<T> inbox) throws InterruptedException {
        T taken = inbox.poll(10, TimeUnit.SECONDS);
        if (taken == null) {
            throw new AssertionError("nothing came");
        }
        return taken;
    }

    static String body(Delivery delivery) {
        return new String(delivery.getBody());
    }

    static long tag(Delivery delivery) {
        return delivery.getEnvelope().getDeliveryTag();
    }

    /** The text that an operation is refused with, which begins with this word. */
    static void refused(String word, Callable<?> operation) throws Exception {
        try {
            operation.call();
        } catch (IOException refused) {
            ShutdownSignalException signal = (ShutdownSignalException) refused.getCause();
            String text = ((AMQP.Channel.Close) signal.getReason()).getReplyText();
            if (!text.startsWith(word)) {
                throw refused;
            }
            return;
        }
        throw new AssertionError("it was not refused");
    }

    static {
        CHECKS.put("login", client -> {
            client.declared(null);
            ConnectionFactory wrong = factory();
            wrong.setPassword("wrong");
            try {
                wrong.newConnection();
                throw new AssertionError("a wrong password was accepted");
            } catch (AuthenticationFailureException refused) {
                expect(refused.getMessage().startsWith("ACCESS_REFUSED"), true);
            }
        });
        CHECKS.put("topology", client -> {
            String exchange = name("topic"), queue = client.declared(null);
            client.channel.exchangeDeclare(exchange, "topic", false, true, null);
            client.channel.queueBind(queue, exchange, "orders.*");
            client.channel.basicPublish(exchange, "orders.new", null, "new".getBytes());
            client.channel.basicPublish(exchange, "bills.new", null, "other".getBytes());
            expect(client.get(queue), "new");
            expect(client.get(queue), null);
        });
        CHECKS.put("confirms", client -> {
            String queue = client.declared(null);
            client.channel.confirmSelect();
            for (int number = 0; number < 100; number++) {
                client.publish(queue, "x", MessageProperties.PERSISTENT_BASIC);
            }
            client.channel.waitForConfirmsOrDie(10_000);
            expect(client.ready(queue), 100L);
        });
        CHECKS.put("returns", client -> {
            BlockingQueue<String> returned = new LinkedBlockingQueue<>();
            client.channel.addReturnListener((code, text, exchange, key, properties, body) -> returned.add(code + text));
            client.channel.basicPublish("", name("nowhere"), true, null, "lost".getBytes());
            expect(take(returned), "312NO_ROUTE");
        });
        CHECKS.put("prefetch", client -> {
            String queue = client.declared(null);
            for (String body : "12345".split("")) {
                client.publish(queue, body, null);
            }
            client.channel.basicQos(2);
            BlockingQueue<Delivery> inbox = client.consume(queue, false);
            Delivery first = take(inbox), second = take(inbox);
            expect(client.ready(queue), 3L);
            client.channel.basicAck(tag(first), false);
            expect(body(take(inbox)) + body(second), "32");
            expect(client.ready(queue), 2L);
        });
        CHECKS.put("requeue", client -> {
            String queue = client.declared(null);
            client.publish(queue, "again", null);
            BlockingQueue<Delivery> inbox = client.consume(queue, false);
            Delivery message = take(inbox);
            expect(message.getEnvelope().isRedeliver(), false);
            client.channel.basicNack(tag(message), false, true);
            message = take(inbox);
            expect(message.getEnvelope().isRedeliver(), true);
            client.channel.basicReject(tag(message), false);
            expect(client.ready(queue), 0L);
        });
        CHECKS.put("retry", client -> {
            String work = name("work"), later = name("later");
            client.declared(work, Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", later));
            client.declared(later, Map.of(
                "x-message-ttl", 50, "x-dead-letter-exchange", "", "x-dead-letter-routing-key", work));
            client.publish(work, "task", null);
            BlockingQueue<Delivery> inbox = client.consume(work, false);
            client.channel.basicReject(tag(take(inbox)), false);
            Delivery again = take(inbox);
            List<?> rows = (List<?>) again.getProperties().getHeaders().get("x-death");
            String deaths = rows.stream().map(row -> (Map<?, ?>) row)
                .map(row -> row.get("queue") + " " + row.get("reason") + " " + row.get("count"))
                .collect(Collectors.joining(", "));
            expect(deaths, later + " expired 1, " + work + " rejected 1");
            client.channel.basicAck(tag(again), false);
        });
        CHECKS.put("rpc", client -> {
            String requests = client.declared(null);
            BlockingQueue<Delivery> replies = client.consume("amq.rabbitmq.reply-to", true);
            client.publish(requests, "12",
                new BasicProperties.Builder().replyTo("amq.rabbitmq.reply-to").correlationId("1").build());
            BasicProperties asked = client.channel.basicGet(requests, true).getProps();
            expect(asked.getReplyTo().startsWith("amq.rabbitmq.reply-to."), true);
            client.publish(asked.getReplyTo(), "144",
                new BasicProperties.Builder().correlationId(asked.getCorrelationId()).build());
            Delivery reply = take(replies);
            expect(body(reply) + reply.getProperties().getCorrelationId(), "1441");
        });
        CHECKS.put("priority", client -> {
            String queue = client.declared(Map.of("x-max-priority", 5));
            for (int number : new int[] {1, 5, 3}) {
                client.publish(queue, "" + number, new BasicProperties.Builder().priority(number).build());
            }
            expect(client.get(queue) + client.get(queue) + client.get(queue), "531");
        });
        CHECKS.put("transaction", client -> {
            String queue = client.declared(null);
            client.channel.txSelect();
            client.publish(queue, "never", null);
            client.channel.txRollback();
            client.publish(queue, "kept", null);
            client.channel.txCommit();
            expect(client.get(queue), "kept");
            expect(client.get(queue), null);
        });
        CHECKS.put("large", client -> {
            String queue = client.declared(null);
            byte[] body = new byte[8 << 20];
            RANDOM.nextBytes(body);
            client.channel.basicPublish("", queue, null, body);
            expect(Arrays.equals(client.channel.basicGet(queue, true).getBody(), body), true);
        });
        CHECKS.put("order", client -> {
            String queue = client.declared(null);
            client.channel.basicQos(100);
            BlockingQueue<Delivery> inbox = client.consume(queue, false);
            for (int number = 0; number < 2000; number++) {
                client.publish(queue, "" + number, null);
            }
            for (int number = 0; number < 2000; number++) {
                Delivery message = take(inbox);
                expect(body(message), "" + number);
                client.channel.basicAck(tag(message), false);
            }
        });
        CHECKS.put("heartbeat", client -> {
            ConnectionFactory factory = factory();
            factory.setRequestedHeartbeat(1);
            try (Opened idle = new Opened(factory)) {
                expect(idle.connection.getHeartbeat(), 1);
                Thread.sleep(3000);
                idle.declared(null);
            }
        });
        CHECKS.put("reconnect", client -> {
            ConnectionFactory factory = factory();
            factory.setNetworkRecoveryInterval(100);
            try (Opened robust = new Opened(factory)) {
                String queue = robust.channel.queueDeclare(name("robust"), false, false, true, null).getQueue();
                BlockingQueue<Delivery> inbox = robust.consume(queue, true);
                CountDownLatch recovered = new CountDownLatch(1);
                ((Recoverable) robust.connection).addRecoveryListener(new RecoveryListener() {
                    public void handleRecovery(Recoverable recoverable) {
                        recovered.countDown();
                    }

                    public void handleRecoveryStarted(Recoverable recoverable) { }
                });
                // What asks for immediate delivery is refused with connection.close 540.
                robust.channel.basicPublish("", queue, false, true, null, "x".getBytes());
                expect(recovered.await(10, TimeUnit.SECONDS), true);
                robust.publish(queue, "after", null);
                expect(body(take(inbox)), "after");
            }
        });
        CHECKS.put("exclusive", client -> {
            String queue = client.declared(null);
            try (Opened other = opened()) {
                refused("RESOURCE_LOCKED", () -> other.channel.queueDeclarePassive(queue));
            }
        });
        CHECKS.put("missing", client -> {
            refused("NOT_FOUND - no queue", () -> client.channel.queueDeclarePassive(name("missing")));
            client.connection.createChannel().queueDeclare();
        });
        CHECKS.put("cancelled", client -> {
            BlockingQueue<String> told = new LinkedBlockingQueue<>();
            String queue = client.channel.queueDeclare(name("going"), false, false, false, null).getQueue();
            client.channel.basicConsume(queue, true, "watcher", (tag, delivery) -> { }, told::add);
            try (Opened other = opened()) {
                other.channel.queueDelete(queue);
            }
            expect(take(told), "watcher");
        });
        CHECKS.put("blocked", client -> {
            BlockingQueue<String> told = new LinkedBlockingQueue<>();
            client.connection.addBlockedListener(told::add, () -> told.add("unblocked"));
            String queue = client.declared(null);
            client.publish(queue, "goes", null);
            expect(client.get(queue), "goes");
            expect(told.size(), 0);
        });
    }

    public static void main(String[] arguments) {
        CHECKS.forEach((name, check) -> {
            try (Opened client = opened()) {
                check.run(client);
                System.out.println("ok " + name);
            } catch (Throwable failure) {
                failure.printStackTrace();
                System.out.println("failed " + name + ": " + failure);
            }
        });
        System.exit(0);
    }
}
