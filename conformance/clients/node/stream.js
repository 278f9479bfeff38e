// rabbitmq-stream-js-client over the stream protocol.
'use strict';
const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
const { connect, Offset } = require('rabbitmq-stream-js-client');
const { CompressionType } = require('rabbitmq-stream-js-client/dist/compression');
const { name, Inbox, sleep, refusal, run } = require('./checks');

const [hostname, port] = process.env.STREAM_ADDRESS.split(':');
const where = { hostname, port: Number(port), username: 'guest', password: 'guest', vhost: '/' };

// Does a check's work on a client and a stream that is there for it.
async function streamed(work) {
  const client = await connect(where);
  try {
    const stream = name('js');
    await client.createStream({ stream });
    await work(client, stream);
    await client.deleteStream({ stream });
  } finally {
    await client.close();
  }
}

// Publishes and waits until all is confirmed.
async function publish(client, stream, bodies, options = {}, publisherOptions = {}, filter = undefined) {
  const publisher = await client.declarePublisher({ stream, ...publisherOptions }, filter);
  let confirmed = 0;
  const all = new Promise((resolve, reject) => {
    publisher.on('publish_confirm', (failure, ids) => {
      if (failure) reject(new Error(`publishing was refused with ${failure}`));
      confirmed += ids.length;
      if (confirmed === bodies.length) resolve();
    });
  });
  for (const body of bodies) await publisher.send(Buffer.from(body), options);
  await publisher.flush();
  await all;
  await publisher.close();
}

// The next messages, in the order in which they come.
async function read(client, stream, count, options = {}) {
  const inbox = new Inbox();
  const consumer = await client.declareConsumer({ stream, offset: Offset.first(), ...options }, (message) => inbox.push(message));
  const messages = [];
  while (messages.length < count) messages.push(await inbox.take());
  await consumer.close();
  return messages;
}

const numbers = (from, to) => Array.from({ length: to - from }, (_, number) => String(from + number));
const bodies = (messages) => messages.map(({ content }) => content.toString());
const offsetsOf = (messages) => messages.map(({ offset }) => Number(offset));

run([
  async function login() {
    await streamed(() => {});
    // It is thrown where nobody can catch it.
    const refused = new Promise((resolve) => process.once('unhandledRejection', resolve));
    connect({ ...where, password: 'wrong' });
    assert.match((await refused).message, /Unable Authenticate -> 8/);
  },

  async function confirms() {
    await streamed(async (client, stream) => {
      await publish(client, stream, numbers(0, 1000));
      const messages = await read(client, stream, 1000);
      assert.deepEqual(bodies(messages), numbers(0, 1000));
      assert.deepEqual(offsetsOf(messages), numbers(0, 1000).map(Number));
    });
  },

  async function batches() {
    await streamed(async (client, stream) => {
      for (const compression of [CompressionType.None, CompressionType.Gzip]) {
        const publisher = await client.declarePublisher({ stream });
        await publisher.sendSubEntries(numbers(0, 100).map((body) => ({ content: Buffer.from(body) })), compression);
        await sleep(500);
        await publisher.close();
      }
      const messages = await read(client, stream, 200);
      assert.deepEqual(bodies(messages), [...numbers(0, 100), ...numbers(0, 100)]);
    });
  },

  async function properties() {
    await streamed(async (client, stream) => {
      const sent = {
        messageProperties: { messageId: 'id', contentType: 'text/plain', correlationId: 'c', subject: 's', groupId: 'g' },
        applicationProperties: { key: 'value', number: 7 },
        messageAnnotations: { 'x-note': 'noted' },
      };
      await publish(client, stream, ['body'], sent);
      const [message] = await read(client, stream, 1);
      for (const [key, value] of Object.entries(sent.messageProperties)) assert.equal(message.messageProperties[key], value);
      assert.deepEqual({ ...message.applicationProperties }, sent.applicationProperties);
      assert.equal(message.messageAnnotations['x-note'], 'noted');
    });
  },

  async function offsets() {
    await streamed(async (client, stream) => {
      await publish(client, stream, numbers(0, 50));
      assert.deepEqual(bodies(await read(client, stream, 10, { offset: Offset.offset(40n) })), numbers(40, 50));
      const following = read(client, stream, 1, { offset: Offset.next() });
      await sleep(500);
      await publish(client, stream, ['next']);
      assert.deepEqual(bodies(await following), ['next']);
    });
  },

  async function timestamp() {
    await streamed(async (client, stream) => {
      await publish(client, stream, ['before']);
      await sleep(1000);
      const between = new Date();
      await sleep(1000);
      await publish(client, stream, ['after']);
      assert.deepEqual(bodies(await read(client, stream, 1, { offset: Offset.timestamp(between) })), ['after']);
    });
  },

  async function deduplication() {
    await streamed(async (client, stream) => {
      const publisherRef = name('publisher');
      for (const [ids, last] of [[[1n, 2n, 3n, 1n], 3n], [[1n, 2n, 7n], 7n]]) {
        const publisher = await client.declarePublisher({ stream, publisherRef });
        for (const publishingId of ids) await publisher.send(Buffer.from(String(publishingId)), { publishingId });
        await publisher.flush();
        await sleep(500);
        assert.equal(await publisher.getLastPublishingId(), last);
        await publisher.close();
      }
      assert.deepEqual(bodies(await read(client, stream, 4)), ['1', '2', '3', '7']);
    });
  },

  async function tracking() {
    await streamed(async (client, stream) => {
      await publish(client, stream, numbers(0, 10));
      const reference = name('reader');
      await refusal(client.queryOffset({ reference, stream }));
      const consumer = await client.declareConsumer({ stream, offset: Offset.first(), consumerRef: reference }, () => {});
      await consumer.storeOffset(6n);
      await sleep(500);
      assert.equal(await consumer.queryOffset(), 6n);
      await consumer.close();
      assert.equal(await client.queryOffset({ reference, stream }), 6n);
    });
  },

  async function filters() {
    await streamed(async (client, stream) => {
      const region = ({ applicationProperties }) => applicationProperties.region;
      for (const value of ['eu', 'us']) {
        const sent = { applicationProperties: { region: value } };
        await publish(client, stream, numbers(0, 20).map((number) => value + number), sent, {}, region);
      }
      const filter = { values: ['us'], matchUnfiltered: false, postFilterFunc: (message) => region(message) === 'us' };
      assert.deepEqual(bodies(await read(client, stream, 20, { filter })), numbers(0, 20).map((number) => `us${number}`));
    });
  },

  async function large() {
    await streamed(async (client, stream) => {
      const body = randomBytes(1_000_000);
      await publish(client, stream, [body]);
      const [message] = await read(client, stream, 1);
      assert.ok(message.content.equals(body));
    });
  },

  async function single_active() {
    await streamed(async (client, stream) => {
      await publish(client, stream, numbers(0, 100));
      const consumerRef = name('group');
      const [first, second] = [new Inbox(), new Inbox()];
      const shared = { stream, offset: Offset.first(), singleActive: true, consumerRef };
      const member = await connect(where);
      const one = await member.declareConsumer(shared, (message) => first.push(message));
      for (let number = 0; number < 100; number++) await first.take();
      await one.storeOffset(49n);
      const consumerUpdateListener = async (reference, of) =>
        Offset.offset(await client.queryOffset({ reference, stream: of }) + 1n);
      const other = await client.declareConsumer({ ...shared, consumerUpdateListener }, (message) => second.push(message));
      await sleep(500);
      assert.equal(second.items.length, 0);
      await member.close();
      for (let number = 50; number < 100; number++) assert.equal((await second.take()).content.toString(), String(number));
      await other.close();
    });
  },

  async function super_stream() {
    const client = await connect(where);
    try {
      const superStream = name('super');
      await client.createSuperStream({ streamName: superStream });
      assert.deepEqual(await client.queryPartitions({ superStream }), [0, 1, 2].map((number) => `${superStream}-${number}`));
      const key = (_, { messageProperties }) => messageProperties.messageId;
      for (const routingStrategy of ['hash', 'key']) {
        const publisher = await client.declareSuperStreamPublisher({ superStream, routingStrategy }, key);
        for (let number = 0; number < 30; number++) {
          const messageId = routingStrategy === 'hash' ? String(number) : String(number % 3);
          await publisher.send(Buffer.from(String(number)), { messageProperties: { messageId } });
        }
        await sleep(500);
        await publisher.close();
      }
      const inbox = new Inbox();
      const consumer = await client.declareSuperStreamConsumer({ superStream, offset: Offset.first() }, (message) => inbox.push(message));
      const got = [];
      while (got.length < 60) got.push((await inbox.take()).content.toString());
      assert.deepEqual(got.sort(), [...numbers(0, 30), ...numbers(0, 30)].sort());
      await consumer.close();
      await client.deleteSuperStream({ streamName: superStream });
    } finally {
      await client.close();
    }
  },
]);
