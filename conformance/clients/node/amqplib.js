// amqplib, with promises.
'use strict';
const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
const { once } = require('node:events');
const amqp = require('amqplib');
const { FATAL_FRAME, url, name, Without, Inbox, sleep, within, refusal, run } = require('./checks');

// Connects, and closes again when the work is done, unless the broker has closed it.
async function opened(work, options = '') {
  const connection = await amqp.connect(url + options);
  let closed = false;
  connection.on('error', () => {});
  connection.on('close', () => { closed = true; });
  try {
    await work(await channelOf(connection), connection);
  } finally {
    if (!closed) await connection.close();
  }
}

// A channel whose errors are told to who waits for an answer on it.
async function channelOf(connection, create = 'createChannel') {
  const channel = await connection[create]();
  channel.on('error', () => {});
  return channel;
}

const declared = async (channel, options) =>
  (await channel.assertQueue('', { exclusive: true, ...options })).queue;
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
    await opened((channel) => declared(channel));
    const wrong = new URL(url);
    wrong.password = 'wrong';
    assert.match((await refusal(amqp.connect(wrong.href))).message, /ACCESS[_-]REFUSED/);
  },

  async function topology() {
    await opened(async (channel) => {
      const { exchange } = await channel.assertExchange(name('topic'), 'topic', { durable: false, autoDelete: true });
      const queue = await declared(channel);
      await channel.bindQueue(queue, exchange, 'orders.*');
      channel.publish(exchange, 'orders.new', Buffer.from('new'));
      channel.publish(exchange, 'bills.new', Buffer.from('other'));
      assert.equal(text(await channel.get(queue, { noAck: true })), 'new');
      assert.equal(await channel.get(queue), false);
    });
  },

  async function confirms() {
    await opened(async (_, connection) => {
      const channel = await channelOf(connection, 'createConfirmChannel');
      const queue = await declared(channel);
      for (let number = 0; number < 100; number++) publish(channel, queue, 'x', { persistent: true });
      await channel.waitForConfirms();
      assert.equal(await ready(channel, queue), 100);
    });
  },

  async function returns() {
    await opened(async (channel) => {
      const returned = once(channel, 'return');
      channel.publish('', name('nowhere'), Buffer.from('lost'), { mandatory: true });
      const [{ fields }] = await returned;
      assert.deepEqual([fields.replyCode, fields.replyText], [312, 'NO_ROUTE']);
    });
  },

  async function prefetch() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      for (const body of '12345') publish(channel, queue, body);
      await channel.prefetch(2);
      const inbox = await consume(channel, queue);
      const [first, second] = [await inbox.take(), await inbox.take()];
      assert.equal(await ready(channel, queue), 3);
      channel.ack(first);
      assert.equal(text(await inbox.take()) + text(second), '32');
      assert.equal(await ready(channel, queue), 2);
    });
  },

  async function requeue() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      publish(channel, queue, 'again');
      const inbox = await consume(channel, queue);
      const message = await inbox.take();
      assert.equal(message.fields.redelivered, false);
      channel.nack(message);
      const again = await inbox.take();
      assert.equal(again.fields.redelivered, true);
      channel.reject(again, false);
      assert.equal(await ready(channel, queue), 0);
    });
  },

  async function retry() {
    await opened(async (channel) => {
      const [work, later] = [name('work'), name('later')];
      await channel.assertQueue(work, { exclusive: true, deadLetterExchange: '', deadLetterRoutingKey: later });
      await channel.assertQueue(later, {
        exclusive: true, messageTtl: 50, deadLetterExchange: '', deadLetterRoutingKey: work });
      publish(channel, work, 'task');
      const inbox = await consume(channel, work);
      channel.reject(await inbox.take(), false);
      const again = await inbox.take();
      const deaths = again.properties.headers['x-death'].map((row) => [row.queue, row.reason, Number(row.count)]);
      assert.deepEqual(deaths, [[later, 'expired', 1], [work, 'rejected', 1]]);
      channel.ack(again);
    });
  },

  async function rpc() {
    await opened(async (channel) => {
      const requests = await declared(channel);
      const replies = await consume(channel, 'amq.rabbitmq.reply-to', { noAck: true });
      publish(channel, requests, '12', { replyTo: 'amq.rabbitmq.reply-to', correlationId: '1' });
      const request = await channel.get(requests, { noAck: true });
      assert.match(request.properties.replyTo, /^amq\.rabbitmq\.reply-to\./);
      publish(channel, request.properties.replyTo, '144', { correlationId: request.properties.correlationId });
      const reply = await replies.take();
      assert.deepEqual([text(reply), reply.properties.correlationId], ['144', '1']);
    });
  },

  async function priority() {
    await opened(async (channel) => {
      const queue = await declared(channel, { maxPriority: 5 });
      for (const number of [1, 5, 3]) publish(channel, queue, String(number), { priority: number });
      const bodies = [];
      for (let count = 0; count < 3; count++) bodies.push(text(await channel.get(queue, { noAck: true })));
      assert.deepEqual(bodies, ['5', '3', '1']);
    });
  },

  async function transaction() {
    throw new Without('no tx methods');
  },

  async function large() {
    await opened(async (channel) => {
      const [queue, body] = [await declared(channel), randomBytes(8 << 20)];
      publish(channel, queue, body);
      assert.ok(body.equals((await channel.get(queue, { noAck: true })).content));
    });
  },

  async function order() {
    await opened(async (channel) => {
      const queue = await declared(channel);
      await channel.prefetch(100);
      const inbox = await consume(channel, queue);
      for (let number = 0; number < 2000; number++) publish(channel, queue, String(number));
      for (let number = 0; number < 2000; number++) {
        const message = await inbox.take();
        assert.equal(text(message), String(number));
        channel.ack(message);
      }
    });
  },

  async function heartbeat() {
    await opened(async (channel) => {
      await sleep(3000);
      await declared(channel);
    }, '?heartbeat=1');
  },

  async function reconnect() {
    await opened(async (_, connection) => {
      const closed = once(connection, 'error');
      connection.connection.sendBytes(FATAL_FRAME);
      assert.match((await closed)[0].message, /NOT_IMPLEMENTED/);
    });
    await opened((channel) => declared(channel));
  },

  async function exclusive() {
    await opened((owner) => opened(async (other) => {
      assert.match((await refusal(other.checkQueue(await declared(owner)))).message, /RESOURCE[_-]LOCKED/);
    }));
  },

  async function missing() {
    await opened(async (channel, connection) => {
      assert.match((await refusal(channel.checkQueue(name('missing')))).message, /NOT_FOUND - no queue/);
      await declared(await channelOf(connection));
    });
  },

  async function cancelled() {
    await opened((channel) => opened(async (other) => {
      const { queue } = await channel.assertQueue(name('going'), { durable: false });
      const inbox = await consume(channel, queue);
      await other.deleteQueue(queue);
      assert.equal(await within(10, inbox.take()), null);
    }));
  },

  async function blocked() {
    await opened(async (channel, connection) => {
      connection.on('blocked', assert.fail).on('unblocked', assert.fail);
      const queue = await declared(channel);
      publish(channel, queue, 'goes');
      assert.equal(text(await channel.get(queue, { noAck: true })), 'goes');
    });
  },
]);
