// @stomp/stompjs over WebSocket, as in a web page.
'use strict';
const assert = require('node:assert');
const { randomUUID } = require('node:crypto');
global.WebSocket ??= require('ws');
const { Client } = require('@stomp/stompjs');
const { name, Without, Inbox, sleep, run } = require('./checks');

const brokerURL = process.env.WEBSOCKET_URL;

// Logs in; what the broker refuses is thrown.
function connect(options) {
  return new Promise((resolve, reject) => {
    const client = new Client({
      brokerURL, connectHeaders: { login: 'guest', passcode: 'guest' }, reconnectDelay: 0, ...options });
    client.onConnect = () => resolve(client);
    client.onStompError = ({ headers, body }) => {
      reject(new Error(`${headers.message}: ${body}`));
      client.deactivate();
    };
    client.activate();
  });
}

// Connects, and disconnects again when the work is done.
async function opened(work, options) {
  const client = await connect(options);
  try {
    await work(client);
  } finally {
    await client.deactivate();
  }
}

// Waits until the broker has done what a frame with that receipt is for.
const receipt = (client, send) => new Promise((resolve) => {
  const id = randomUUID();
  client.watchForReceipt(id, resolve);
  send({ receipt: id });
});

const queue = () => `/queue/${name('stomp')}`;
const publish = (client, destination, body, headers) => client.publish({ destination, body, headers });
const send = (client, destination, body, headers) =>
  receipt(client, (more) => publish(client, destination, body, { ...headers, ...more }));

async function subscribe(client, destination, headers) {
  const inbox = new Inbox();
  await receipt(client, (more) =>
    client.subscribe(destination, (message) => inbox.push(message), { 'auto-delete': 'true', ...headers, ...more }));
  return inbox;
}

// The ERROR that comes of what is sent.
async function error(send) {
  const client = await connect();
  const refused = new Promise((resolve) => { client.onStompError = resolve; });
  send(client);
  const { headers, body } = await refused;
  await client.deactivate();
  return `${headers.message}: ${body}`;
}

run([
  async function login() {
    await opened(() => {});
    await assert.rejects(connect({ connectHeaders: { login: 'guest', passcode: 'wrong' } }), /Bad CONNECT: Access refused/);
  },

  async function topology() {
    await opened(async (client) => {
      const key = name('orders');
      const inbox = await subscribe(client, `/topic/${key}.*`);
      await send(client, `/topic/bills.new`, 'other');
      await send(client, `/topic/${key}.new`, 'new');
      const message = await inbox.take();
      assert.deepEqual([message.body, message.headers.destination], ['new', `/topic/${key}.new`]);
    });
  },

  async function confirms() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = await subscribe(client, destination);
      await Promise.all(Array.from({ length: 100 }, (_, number) =>
        send(client, destination, String(number), { persistent: 'true' })));
      for (let number = 0; number < 100; number++) assert.equal((await inbox.take()).body, String(number));
    });
  },

  async function returns() { throw new Without('STOMP returns nothing'); },

  async function prefetch() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = await subscribe(client, destination, { ack: 'client-individual', 'prefetch-count': '2' });
      for (const body of '12345') await send(client, destination, body);
      const [first, second] = [await inbox.take(), await inbox.take()];
      assert.equal(inbox.items.length, 0);
      first.ack();
      assert.equal((await inbox.take()).body + second.body, '32');
    });
  },

  async function requeue() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = await subscribe(client, destination, { ack: 'client-individual' });
      await send(client, destination, 'again');
      const message = await inbox.take();
      assert.equal(message.headers.redelivered, 'false');
      message.nack();
      const again = await inbox.take();
      assert.equal(again.headers.redelivered, 'true');
      again.nack({ requeue: 'false' });
      await send(client, destination, 'next');
      assert.equal((await inbox.take()).body, 'next');
    });
  },

  async function retry() {
    await opened(async (client) => {
      const [work, later] = [name('work'), name('later')];
      const inbox = await subscribe(client, `/queue/${work}`,
        { ack: 'client-individual', 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': later });
      const parked = await subscribe(client, `/queue/${later}`, {});
      await send(client, `/queue/${work}`, 'task');
      (await inbox.take()).nack({ requeue: 'false' });
      const dead = await parked.take();
      assert.deepEqual([dead.body, dead.headers['x-first-death-reason']], ['task', 'rejected']);
    });
  },

  async function rpc() {
    await opened(async (client) => {
      const requests = queue();
      const inbox = await subscribe(client, requests);
      const replies = new Inbox();
      client.onUnhandledMessage = (message) => replies.push(message);
      await send(client, requests, '12', { 'reply-to': '/temp-queue/answers', 'correlation-id': '1' });
      const { headers } = await inbox.take();
      assert.match(headers['reply-to'], /^\/reply-queue\//);
      await send(client, headers['reply-to'], '144', { 'correlation-id': headers['correlation-id'] });
      const reply = await replies.take();
      assert.deepEqual([reply.body, reply.headers.subscription], ['144', '/temp-queue/answers']);
    });
  },

  async function priority() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = await subscribe(client, destination,
        { ack: 'client-individual', 'x-max-priority': '5', 'prefetch-count': '1' });
      for (const number of [0, 1, 5, 3]) await send(client, destination, String(number), { priority: String(number) });
      const bodies = [];
      for (let count = 0; count < 4; count++) {
        const message = await inbox.take();
        bodies.push(message.body);
        message.ack();
      }
      // The first one was out before the others came.
      assert.deepEqual(bodies, ['0', '5', '3', '1']);
    });
  },

  async function transaction() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = await subscribe(client, destination);
      const never = client.begin();
      publish(client, destination, 'never', { transaction: never.id });
      never.abort();
      const comes = client.begin();
      publish(client, destination, 'comes', { transaction: comes.id });
      comes.commit();
      assert.equal((await inbox.take()).body, 'comes');
    });
  },

  async function large() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = await subscribe(client, destination);
      const body = 'ä'.repeat(1 << 20);
      await send(client, destination, body);
      assert.ok((await inbox.take()).body === body);
      const bytes = new Uint8Array(100_000).map((_, at) => at % 256);
      await receipt(client, (headers) => client.publish({ destination, binaryBody: bytes, headers }));
      assert.ok(Buffer.from((await inbox.take()).binaryBody).equals(Buffer.from(bytes)));
    });
  },

  async function order() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = await subscribe(client, destination, { ack: 'client', 'prefetch-count': '100' });
      for (let number = 0; number < 2000; number++) publish(client, destination, String(number));
      for (let number = 0; number < 2000; number++) {
        const message = await inbox.take();
        assert.equal(message.body, String(number));
        message.ack();
      }
    });
  },

  async function heartbeat() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = await subscribe(client, destination);
      await sleep(3500);
      await send(client, destination, 'alive');
      assert.equal((await inbox.take()).body, 'alive');
    }, { heartbeatIncoming: 1000, heartbeatOutgoing: 1000 });
  },

  async function reconnect() {
    const client = await connect({ reconnectDelay: 100 });
    const again = new Promise((resolve) => { client.onConnect = resolve; });
    client.onStompError = () => {};
    publish(client, '/nowhere/at-all', 'x');
    client.forceDisconnect();
    await again;
    await client.deactivate();
  },

  async function exclusive() {
    await opened(async (client) => {
      const destination = queue();
      await subscribe(client, destination, { exclusive: 'true' });
      assert.match(await error((other) => other.subscribe(destination, () => {}, { exclusive: 'true' })), /RESOURCE_LOCKED/i);
    });
  },

  async function missing() {
    assert.match(await error((client) => client.subscribe(`/amq/queue/${name('no')}`, () => {})), /NOT_FOUND/i);
  },

  async function cancelled() { throw new Without('no other protocol deletes the queue here'); },

  async function blocked() { throw new Without('STOMP does not say so'); },
]);
