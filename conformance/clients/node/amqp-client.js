// @cloudamqp/amqp-client over WebSocket, as in a web page.
'use strict';
const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
global.WebSocket ??= require('ws');
const { AMQPWebSocketClient } = require('@cloudamqp/amqp-client');
const { name, Without, Inbox, sleep, refusal, run } = require('./checks');

const url = process.env.WEBSOCKET_URL;

// Connects, and closes again when the work is done, unless the broker has closed it.
async function opened(work, options) {
  const client = new AMQPWebSocketClient({ url, ...options });
  client.onerror = () => {};
  const connection = await client.connect();
  try {
    await work(await connection.channel(), connection);
  } finally {
    if (!connection.closed) await connection.close();
  }
}

const declared = async (channel, args) => (await channel.queueDeclare('', { exclusive: true }, args)).name;
const publish = (channel, queue, body, properties) => channel.basicPublish('', queue, body, properties);
const ready = async (channel, queue) => (await channel.queueDeclare(queue, { passive: true })).messageCount;

async function consume(channel, queue, options) {
  const inbox = new Inbox();
  await channel.basicConsume(queue, { noAck: false, ...options }, (message) => inbox.push(message));
  return inbox;
}

run([
  async function login() {
    await opened((channel) => declared(channel));
    const wrong = new AMQPWebSocketClient({ url, password: 'wrong' });
    wrong.onerror = () => {};
    await refusal(wrong.connect());
  },

  async function topology() {
    await opened(async (channel) => {
      const exchange = name('topic');
      await channel.exchangeDeclare(exchange, 'topic', { durable: false, autoDelete: true });
      const queue = await declared(channel);
      await channel.queueBind(queue, exchange, 'orders.*');
      await channel.basicPublish(exchange, 'orders.new', 'new');
      await channel.basicPublish(exchange, 'bills.new', 'other');
      assert.equal((await channel.basicGet(queue, { noAck: true })).bodyString(), 'new');
      assert.equal(await channel.basicGet(queue, { noAck: true }), null);
    });
  },

  async function confirms() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      await channel.confirmSelect();
      const all = Array.from({ length: 100 }, () => publish(channel, queue, 'x', { deliveryMode: 2 }));
      await Promise.all(all);
      assert.equal(await ready(channel, queue), 100);
    });
  },

  async function returns() {
    await opened(async (channel) => {
      const returned = new Promise((resolve) => { channel.onReturn = resolve; });
      await channel.basicPublish('', name('nowhere'), 'lost', {}, true);
      const { replyCode, replyText } = await returned;
      assert.deepEqual([replyCode, replyText], [312, 'NO_ROUTE']);
    });
  },

  async function prefetch() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      for (const body of '12345') await publish(channel, queue, body);
      await channel.prefetch(2);
      const inbox = await consume(channel, queue);
      const [first, second] = [await inbox.take(), await inbox.take()];
      assert.equal(await ready(channel, queue), 3);
      await first.ack();
      assert.equal((await inbox.take()).bodyString() + second.bodyString(), '32');
      assert.equal(await ready(channel, queue), 2);
    });
  },

  async function requeue() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      await publish(channel, queue, 'again');
      const inbox = await consume(channel, queue);
      const message = await inbox.take();
      assert.equal(message.redelivered, false);
      await message.nack(true);
      const again = await inbox.take();
      assert.equal(again.redelivered, true);
      await again.reject(false);
      assert.equal(await ready(channel, queue), 0);
    });
  },

  async function retry() {
    await opened(async (channel) => {
      const [work, later] = [name('work'), name('later')];
      await channel.queueDeclare(work, { exclusive: true },
        { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': later });
      await channel.queueDeclare(later, { exclusive: true },
        { 'x-message-ttl': 50, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': work });
      await publish(channel, work, 'task');
      const inbox = await consume(channel, work);
      await (await inbox.take()).reject(false);
      const again = await inbox.take();
      const deaths = again.properties.headers['x-death'].map((row) => [row.queue, row.reason, Number(row.count)]);
      assert.deepEqual(deaths, [[later, 'expired', 1], [work, 'rejected', 1]]);
      await again.ack();
    });
  },

  async function rpc() {
    await opened(async (channel) => {
      const requests = await declared(channel);
      const replies = await consume(channel, 'amq.rabbitmq.reply-to', { noAck: true });
      await publish(channel, requests, '12', { replyTo: 'amq.rabbitmq.reply-to', correlationId: '1' });
      const { properties } = await channel.basicGet(requests, { noAck: true });
      assert.match(properties.replyTo, /^amq\.rabbitmq\.reply-to\./);
      await publish(channel, properties.replyTo, '144', { correlationId: properties.correlationId });
      const reply = await replies.take();
      assert.deepEqual([reply.bodyString(), reply.properties.correlationId], ['144', '1']);
    });
  },

  async function priority() {
    await opened(async (channel) => {
      const queue = await declared(channel, { 'x-max-priority': 5 });
      for (const number of [1, 5, 3]) await publish(channel, queue, String(number), { priority: number });
      const bodies = [];
      for (let count = 0; count < 3; count++) {
        bodies.push((await channel.basicGet(queue, { noAck: true })).bodyString());
      }
      assert.deepEqual(bodies, ['5', '3', '1']);
    });
  },

  async function transaction() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      await channel.txSelect();
      await publish(channel, queue, 'never');
      await channel.txRollback();
      await publish(channel, queue, 'comes');
      await channel.txCommit();
      assert.equal((await channel.basicGet(queue, { noAck: true })).bodyString(), 'comes');
      assert.equal(await channel.basicGet(queue, { noAck: true }), null);
    });
  },

  async function large() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      const body = randomBytes(8 << 20);
      await publish(channel, queue, body);
      const message = await channel.basicGet(queue, { noAck: true });
      assert.ok(body.equals(Buffer.from(message.body)));
    }, { frameMax: 131072 });
  },

  async function order() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      for (let number = 0; number < 2000; number++) await publish(channel, queue, String(number));
      await channel.prefetch(100);
      const inbox = await consume(channel, queue);
      for (let number = 0; number < 2000; number++) {
        const message = await inbox.take();
        assert.equal(message.bodyString(), String(number));
        await message.ack();
      }
    });
  },

  async function heartbeat() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      await sleep(3000);
      assert.equal(await ready(channel, queue), 0);
    }, { heartbeat: 1 });
  },

  async function reconnect() {
    throw new Without('left to the program, or to its AMQPSession');
  },

  async function exclusive() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      await opened(async (other) => {
        assert.match((await refusal(other.queueDeclare(queue, { passive: true }))).message, /405|RESOURCE_LOCKED/);
      });
    });
  },

  async function missing() {
    await opened(async (channel, connection) => {
      assert.match((await refusal(channel.queueDeclare(name('no'), { passive: true }))).message, /404|NOT_FOUND/);
      await declared(await connection.channel());
    });
  },

  async function cancelled() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      const consumer = await channel.basicConsume(queue, {}, () => {});
      const ended = refusal(consumer.wait());
      await channel.queueDelete(queue);
      await ended;
    });
  },

  async function blocked() {
    await opened(async (channel, connection) => {
      assert.ok(!connection.blocked);
      await declared(channel);
    });
  },
]);
