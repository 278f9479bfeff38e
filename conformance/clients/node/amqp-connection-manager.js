// amqp-connection-manager: amqplib with connections and channels that come back by themselves.
'use strict';
const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
const { once } = require('node:events');
const amqp = require('amqp-connection-manager');
const { FATAL_FRAME, url, name, Without, Inbox, sleep, within, refusal, run } = require('./checks');

// A connection and a channel wrapper whose setup declares a queue.
async function opened(work, { queue = name('queue'), options = {}, channel = {}, connection = {} } = {}) {
  const manager = amqp.connect([url], { heartbeatIntervalInSeconds: 5, reconnectTimeInSeconds: 0.1, ...connection });
  const wrapper = manager.createChannel({
    ...channel,
    setup: (raw) => raw.assertQueue(queue, { exclusive: true, ...options }),
  });
  try {
    await wrapper.waitForConnect();
    await work(wrapper, queue, manager);
  } finally {
    await manager.close();
  }
}

const publish = (channel, queue, body, options) => channel.sendToQueue(queue, Buffer.from(body), options);
const ready = async (channel, queue) => (await channel.checkQueue(queue)).messageCount;
const text = (message) => message.content.toString();

async function consume(channel, queue, options) {
  const inbox = new Inbox();
  await channel.consume(queue, (message) => inbox.push(message), options);
  return inbox;
}

run([
  async function login() {
    await opened(() => {});
    const wrong = new URL(url);
    wrong.password = 'wrong';
    const manager = amqp.connect([wrong.href]);
    const [{ err }] = await once(manager, 'connectFailed');
    assert.match(err.message, /ACCESS[_-]REFUSED/);
    await manager.close();
  },

  async function topology() {
    await opened(async (channel, queue) => {
      const exchange = name('topic');
      await channel.assertExchange(exchange, 'topic', { durable: false, autoDelete: true });
      await channel.bindQueue(queue, exchange, 'orders.*');
      await channel.publish(exchange, 'orders.new', Buffer.from('new'));
      await channel.publish(exchange, 'bills.new', Buffer.from('other'));
      assert.equal(text(await channel.get(queue, { noAck: true })), 'new');
      assert.equal(await channel.get(queue), false);
    });
  },

  async function confirms() {
    await opened(async (channel, queue) => {
      await Promise.all(Array.from({ length: 100 }, () => publish(channel, queue, 'x', { persistent: true })));
      assert.equal(await ready(channel, queue), 100);
    });
  },

  async function returns() {
    await opened(async (channel) => {
      const returned = new Inbox();
      await channel.addSetup((raw) => raw.on('return', (message) => returned.push(message.fields)));
      await channel.publish('', name('nowhere'), Buffer.from('lost'), { mandatory: true });
      const { replyCode, replyText } = await returned.take();
      assert.deepEqual([replyCode, replyText], [312, 'NO_ROUTE']);
    });
  },

  async function prefetch() {
    await opened(async (channel, queue) => {
      for (const body of '12345') await publish(channel, queue, body);
      const inbox = await consume(channel, queue, { prefetch: 2 });
      const [first, second] = [await inbox.take(), await inbox.take()];
      assert.equal(await ready(channel, queue), 3);
      channel.ack(first);
      assert.equal(text(await inbox.take()) + text(second), '32');
      assert.equal(await ready(channel, queue), 2);
    });
  },

  async function requeue() {
    await opened(async (channel, queue) => {
      await publish(channel, queue, 'again');
      const inbox = await consume(channel, queue);
      const message = await inbox.take();
      assert.equal(message.fields.redelivered, false);
      channel.nack(message);
      const again = await inbox.take();
      assert.equal(again.fields.redelivered, true);
      channel.nack(again, false, false);
      assert.equal(await ready(channel, queue), 0);
    });
  },

  async function retry() {
    const [work, later] = [name('work'), name('later')];
    await opened(async (channel) => {
      await channel.assertQueue(later, {
        exclusive: true, messageTtl: 50, deadLetterExchange: '', deadLetterRoutingKey: work });
      await publish(channel, work, 'task');
      const inbox = await consume(channel, work);
      channel.nack(await inbox.take(), false, false);
      const again = await inbox.take();
      const deaths = again.properties.headers['x-death'].map((row) => [row.queue, row.reason, Number(row.count)]);
      assert.deepEqual(deaths, [[later, 'expired', 1], [work, 'rejected', 1]]);
      channel.ack(again);
    }, { queue: work, options: { deadLetterExchange: '', deadLetterRoutingKey: later } });
  },

  async function rpc() {
    await opened(async (channel, requests) => {
      const replies = await consume(channel, 'amq.rabbitmq.reply-to', { noAck: true });
      await publish(channel, requests, '12', { replyTo: 'amq.rabbitmq.reply-to', correlationId: '1' });
      const request = await channel.get(requests, { noAck: true });
      assert.match(request.properties.replyTo, /^amq\.rabbitmq\.reply-to\./);
      await publish(channel, request.properties.replyTo, '144', { correlationId: request.properties.correlationId });
      const reply = await replies.take();
      assert.deepEqual([text(reply), reply.properties.correlationId], ['144', '1']);
    });
  },

  async function priority() {
    await opened(async (channel, queue) => {
      for (const number of [1, 5, 3]) await publish(channel, queue, String(number), { priority: number });
      const bodies = [];
      for (let count = 0; count < 3; count++) bodies.push(text(await channel.get(queue, { noAck: true })));
      assert.deepEqual(bodies, ['5', '3', '1']);
    }, { options: { maxPriority: 5 } });
  },

  async function transaction() {
    throw new Without('no tx methods');
  },

  async function large() {
    await opened(async (channel, queue) => {
      const body = randomBytes(8 << 20);
      await publish(channel, queue, body);
      assert.ok(body.equals((await channel.get(queue, { noAck: true })).content));
    });
  },

  async function order() {
    await opened(async (channel, queue) => {
      const inbox = await consume(channel, queue, { prefetch: 100 });
      const sent = Array.from({ length: 2000 }, (_, number) => publish(channel, queue, String(number)));
      for (let number = 0; number < 2000; number++) {
        const message = await inbox.take();
        assert.equal(text(message), String(number));
        channel.ack(message);
      }
      await Promise.all(sent);
    });
  },

  async function heartbeat() {
    await opened(async (channel, queue, manager) => {
      manager.on('disconnect', assert.fail);
      await sleep(3000);
      assert.equal(await ready(channel, queue), 0);
      manager.removeListener('disconnect', assert.fail);
    }, { connection: { heartbeatIntervalInSeconds: 1 } });
  },

  async function reconnect() {
    await opened(async (channel, queue, manager) => {
      const inbox = await consume(channel, queue);
      const [lost, back] = [once(manager, 'disconnect'), once(manager, 'connect')];
      manager.connection.connection.sendBytes(FATAL_FRAME);
      assert.match((await lost)[0].err.message, /NOT_IMPLEMENTED/);
      await publish(channel, queue, 'sent meanwhile');
      await within(10, back);
      const message = await within(10, inbox.take());
      assert.equal(text(message), 'sent meanwhile');
      channel.ack(message);
    });
  },

  async function exclusive() {
    await opened((_, mine) => opened(async (channel, __, manager) => {
      const refused = await refusal(channel.checkQueue(mine));
      assert.match(refused.message, /RESOURCE[_-]LOCKED/);
      await manager.reconnect();
      await channel.waitForConnect();
    }));
  },

  async function missing() {
    await opened(async (channel, _, manager) => {
      assert.match((await refusal(channel.checkQueue(name('missing')))).message, /NOT_FOUND - no queue/);
      const next = manager.createChannel();
      await next.assertQueue('', { exclusive: true });
      await manager.reconnect();
      await channel.waitForConnect();
    });
  },

  async function cancelled() {
    await opened((_, __, manager) => opened(async (other) => {
      const queue = name('going');
      const channel = manager.createChannel({ setup: (raw) => raw.assertQueue(queue, { durable: false }) });
      const told = new Inbox();
      await channel.addSetup((raw) => raw.consume(queue, (message) => told.push(message)));
      await channel.waitForConnect();
      await other.deleteQueue(queue);
      assert.equal(await within(10, told.take()), null);
    }));
  },

  async function blocked() {
    await opened(async (channel, queue, manager) => {
      manager.on('blocked', assert.fail).on('unblocked', assert.fail);
      await publish(channel, queue, 'goes');
      assert.equal(text(await channel.get(queue, { noAck: true })), 'goes');
    });
  },
]);
