<?php
// php-amqplib.
require 'PhpAmqpLib/autoload.php';

use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Exception\AMQPBasicCancelException;
use PhpAmqpLib\Exception\AMQPConnectionClosedException;
use PhpAmqpLib\Exception\AMQPProtocolChannelException;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

const PATIENCE = 10;
$url = parse_url(getenv('AMQP_URL'));

/** A name that no other check and no other run uses. */
function name(string $word): string
{
    return $word . '-' . bin2hex(random_bytes(6));
}

function expect($got, $wanted): void
{
    if ($got !== $wanted) {
        throw new Exception('got ' . json_encode($got) . ' and not ' . json_encode($wanted));
    }
}

function connect(?string $password = null, int $heartbeat = 0): AMQPStreamConnection
{
    global $url;
    return new AMQPStreamConnection($url['host'], $url['port'], $url['user'], $password ?? $url['pass'],
        urldecode(substr($url['path'], 1)), false, 'AMQPLAIN', null, 'en_US', 10, 10, null, false, $heartbeat);
}

/** A queue that goes with its connection. */
function declared($channel, string $queue = '', array $arguments = []): string
{
    return $channel->queue_declare($queue, false, false, true, false, false, new AMQPTable($arguments))[0];
}

function publish($channel, string $queue, string $body, array $properties = []): void
{
    $channel->basic_publish(new AMQPMessage($body, $properties), '', $queue);
}

function ready($channel, string $queue): int
{
    return $channel->queue_declare($queue, true)[1];
}

function body_of($channel, string $queue): ?string
{
    return $channel->basic_get($queue, true)?->getBody();
}

/** Consumes into an inbox that take() takes from. */
function consume($channel, string $queue, bool $no_ack = false): ArrayObject
{
    $inbox = new ArrayObject();
    $channel->basic_consume($queue, '', false, $no_ack, false, false, fn ($message) => $inbox->append($message));
    return $inbox;
}

function take($channel, ArrayObject $inbox)
{
    while (!count($inbox)) {
        $channel->wait(null, false, PATIENCE);
    }
    $items = $inbox->getArrayCopy();
    $first = array_shift($items);
    $inbox->exchangeArray($items);
    return $first;
}

/** What an operation is refused with, which has to be of this class. */
function refusal(string $class, callable $operation): Throwable
{
    try {
        $operation();
    } catch (Throwable $refused) {
        if ($refused instanceof $class) {
            return $refused;
        }
        throw $refused;
    }
    throw new Exception('it was not refused');
}

$checks = [
    'login' => function ($channel) {
        declared($channel);
        $refused = refusal(AMQPConnectionClosedException::class, fn () => connect('wrong'));
        expect($refused->getCode(), 403);
    },
    'topology' => function ($channel) {
        [$exchange, $queue] = [name('topic'), declared($channel)];
        $channel->exchange_declare($exchange, 'topic');
        $channel->queue_bind($queue, $exchange, 'orders.*');
        $channel->basic_publish(new AMQPMessage('new'), $exchange, 'orders.new');
        $channel->basic_publish(new AMQPMessage('other'), $exchange, 'bills.new');
        expect([body_of($channel, $queue), body_of($channel, $queue)], ['new', null]);
        $channel->exchange_delete($exchange);
    },
    'confirms' => function ($channel) {
        [$queue, $acks] = [declared($channel), 0];
        $channel->set_ack_handler(function () use (&$acks) { $acks++; });
        $channel->confirm_select();
        for ($number = 0; $number < 100; $number++) {
            publish($channel, $queue, 'x', ['delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT]);
        }
        $channel->wait_for_pending_acks(PATIENCE);
        expect([$acks, ready($channel, $queue)], [100, 100]);
    },
    'returns' => function ($channel) {
        $returned = new ArrayObject();
        $channel->set_return_listener(fn ($code, $text) => $returned->append([$code, $text]));
        $channel->basic_publish(new AMQPMessage('lost'), '', name('nowhere'), true);
        expect(take($channel, $returned), [312, 'NO_ROUTE']);
    },
    'prefetch' => function ($channel) {
        $queue = declared($channel);
        foreach (['1', '2', '3', '4', '5'] as $body) {
            publish($channel, $queue, $body);
        }
        $channel->basic_qos(0, 2, false);
        $inbox = consume($channel, $queue);
        [$first, $second] = [take($channel, $inbox), take($channel, $inbox)];
        expect(ready($channel, $queue), 3);
        $first->ack();
        expect(take($channel, $inbox)->getBody() . $second->getBody(), '32');
        expect(ready($channel, $queue), 2);
    },
    'requeue' => function ($channel) {
        publish($channel, $queue = declared($channel), 'again');
        $inbox = consume($channel, $queue);
        $message = take($channel, $inbox);
        expect($message->isRedelivered(), false);
        $message->nack(true);
        $message = take($channel, $inbox);
        expect($message->isRedelivered(), true);
        $message->reject(false);
        expect(ready($channel, $queue), 0);
    },
    'retry' => function ($channel) {
        [$work, $later] = [name('work'), name('later')];
        declared($channel, $work, ['x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => $later]);
        declared($channel, $later, [
            'x-message-ttl' => 50, 'x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => $work]);
        publish($channel, $work, 'task');
        $inbox = consume($channel, $work);
        take($channel, $inbox)->reject(false);
        $again = take($channel, $inbox);
        $deaths = array_map(fn ($row) => [$row['queue'], $row['reason'], $row['count']],
            $again->get('application_headers')->getNativeData()['x-death']);
        expect($deaths, [[$later, 'expired', 1], [$work, 'rejected', 1]]);
        $again->ack();
    },
    'rpc' => function ($channel) {
        [$requests, $replies] = [declared($channel), consume($channel, 'amq.rabbitmq.reply-to', true)];
        publish($channel, $requests, '12', ['reply_to' => 'amq.rabbitmq.reply-to', 'correlation_id' => '1']);
        $request = $channel->basic_get($requests, true);
        expect(str_starts_with($request->get('reply_to'), 'amq.rabbitmq.reply-to.'), true);
        publish($channel, $request->get('reply_to'), '144', ['correlation_id' => $request->get('correlation_id')]);
        $reply = take($channel, $replies);
        expect([$reply->getBody(), $reply->get('correlation_id')], ['144', '1']);
    },
    'priority' => function ($channel) {
        $queue = declared($channel, '', ['x-max-priority' => 5]);
        foreach ([1, 5, 3] as $number) {
            publish($channel, $queue, (string) $number, ['priority' => $number]);
        }
        expect([body_of($channel, $queue), body_of($channel, $queue), body_of($channel, $queue)], ['5', '3', '1']);
    },
    'transaction' => function ($channel) {
        $queue = declared($channel);
        $channel->tx_select();
        publish($channel, $queue, 'never');
        $channel->tx_rollback();
        publish($channel, $queue, 'kept');
        $channel->tx_commit();
        expect([body_of($channel, $queue), body_of($channel, $queue)], ['kept', null]);
    },
    'large' => function ($channel) {
        [$queue, $body] = [declared($channel), random_bytes(8 << 20)];
        publish($channel, $queue, $body);
        expect(body_of($channel, $queue) === $body, true);
    },
    'order' => function ($channel) {
        $queue = declared($channel);
        $channel->basic_qos(0, 100, false);
        $inbox = consume($channel, $queue);
        for ($number = 0; $number < 2000; $number++) {
            publish($channel, $queue, (string) $number);
        }
        for ($number = 0; $number < 2000; $number++) {
            $message = take($channel, $inbox);
            expect($message->getBody(), (string) $number);
            $message->ack();
        }
    },
    'heartbeat' => function () {
        $connection = connect(null, 1);
        expect($connection->getHeartbeat(), 1);
        for ($tick = 0; $tick < 10; $tick++) {
            usleep(300_000);
            $connection->checkHeartBeat();
        }
        declared($connection->channel());
        $connection->close();
    },
    'reconnect' => function ($channel, $connection) {
        $queue = name('robust');
        $channel->queue_declare($queue, false, false, false, false);
        $refused = refusal(AMQPConnectionClosedException::class, fn () => $channel->basic_qos(5, 0, false));
        expect($refused->getCode(), 540);
        $connection->reconnect();
        $channel = $connection->channel();
        publish($channel, $queue, 'after');
        expect(body_of($channel, $queue), 'after');
        $channel->queue_delete($queue);
    },
    'exclusive' => function ($channel) {
        $queue = declared($channel);
        $other = connect();
        expect(refusal(AMQPProtocolChannelException::class, fn () => ready($other->channel(), $queue))->getCode(), 405);
        $other->close();
    },
    'missing' => function ($channel, $connection) {
        $refused = refusal(AMQPProtocolChannelException::class, fn () => ready($channel, name('missing')));
        expect(str_starts_with($refused->getMessage(), 'NOT_FOUND - no queue'), true);
        declared($connection->channel());
    },
    'cancelled' => function ($channel) {
        $queue = name('going');
        $channel->queue_declare($queue, false, false, false, false);
        $inbox = consume($channel, $queue);
        $other = connect();
        $other->channel()->queue_delete($queue);
        $other->close();
        refusal(AMQPBasicCancelException::class, fn () => take($channel, $inbox));
    },
    'blocked' => function ($channel, $connection) {
        $told = [];
        $connection->set_connection_block_handler(function () use (&$told) { $told[] = true; });
        $connection->set_connection_unblock_handler(function () use (&$told) { $told[] = false; });
        publish($channel, $queue = declared($channel), 'goes');
        expect([body_of($channel, $queue), $told], ['goes', []]);
    },
];

foreach ($checks as $check => $run) {
    try {
        $connection = connect();
        $run($connection->channel(), $connection);
        $connection->close();
        echo "ok $check\n";
    } catch (Throwable $failure) {
        fwrite(STDERR, "$failure\n");
        echo "failed $check: {$failure->getMessage()}\n";
    }
}
