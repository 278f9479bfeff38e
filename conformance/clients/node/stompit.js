// stompit, over TCP.
'use strict';
const assert = require('node:assert');
const { randomBytes } = require('node:crypto');
const stompit = require('stompit');
const { name, Without, Inbox, sleep, run } = require('./checks');

const [host, port] = (process.env.STOMP_ADDRESS ?? '').split(':');

// An ERROR comes to the client's listeners, and then once more as an error of its frame, which nothing listens for.
process.on('uncaughtException', (error) => {
  if (!error.longMessage) throw error;
});

// Logs in; what the broker refuses is thrown.
function connect(headers) {
  const connectHeaders = { host: '/', login: 'guest', passcode: 'guest', ...headers };
  return new Promise((resolve, reject) =>
    stompit.connect({ host, port, connectHeaders }, (error, client) => (error ? reject(error) : resolve(client))));
}

// Connects, and disconnects again when the work is done.
async function opened(work, headers) {
  const client = await connect(headers);
  client.on('error', () => {});
  try {
    await work(client);
  } finally {
    client.disconnect();
  }
}

const queue = () => `/queue/${name('stompit')}`;
const put = (client, destination, body, headers, options) => {
  const frame = client.send({ destination, 'content-length': Buffer.byteLength(body), ...headers }, options);
  frame.end(body);
};
const send = (client, destination, body, headers) =>
  new Promise((onReceipt) => put(client, destination, body, headers, { onReceipt }));

function subscribe(client, destination, headers) {
  const inbox = new Inbox();
  client.subscribe({ destination, 'auto-delete': 'true', ...headers }, (error, message) => {
    if (error) return;
    const pieces = [];
    message.on('data', (piece) => pieces.push(piece));
    message.on('end', () => inbox.push({ message, headers: message.headers, body: Buffer.concat(pieces) }));
  });
  return inbox;
}

const text = async (inbox) => String((await inbox.take()).body);

// Waits for the error that comes of what is sent. Of a broker that closes behind its ERROR stompit mostly reports the end alone.
async function error(send) {
  const client = await connect();
  const refused = new Promise((resolve) => client.on('error', resolve));
  send(client);
  await refused;
  client.destroy();
}

run([
  async function login() {
    await opened(() => {});
    await assert.rejects(connect({ passcode: 'wrong' }));
  },

  async function topology() {
    await opened(async (client) => {
      const key = name('orders');
      const inbox = subscribe(client, `/topic/${key}.*`);
      await send(client, '/topic/bills.new', 'other');
      await send(client, `/topic/${key}.new`, 'new');
      const message = await inbox.take();
      assert.deepEqual([String(message.body), message.headers.destination], ['new', `/topic/${key}.new`]);
    });
  },

  async function confirms() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = subscribe(client, destination);
      await Promise.all(Array.from({ length: 100 }, (_, number) =>
        send(client, destination, String(number), { persistent: 'true' })));
      for (let number = 0; number < 100; number++) assert.equal(await text(inbox), String(number));
    });
  },

  async function returns() { throw new Without('STOMP returns nothing'); },

  async function prefetch() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = subscribe(client, destination, { ack: 'client-individual', 'prefetch-count': '2' });
      for (const body of '12345') await send(client, destination, body);
      const [first, second] = [await inbox.take(), await inbox.take()];
      assert.equal(inbox.items.length, 0);
      client.ack(first.message);
      assert.equal(await text(inbox) + String(second.body), '32');
    });
  },

  async function requeue() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = subscribe(client, destination, { ack: 'client-individual' });
      await send(client, destination, 'again');
      const first = await inbox.take();
      assert.equal(first.headers.redelivered, 'false');
      client.nack(first.message);
      const again = await inbox.take();
      assert.equal(again.headers.redelivered, 'true');
      client.nack(again.message, { requeue: 'false' });
      await send(client, destination, 'next');
      assert.equal(await text(inbox), 'next');
    });
  },

  async function retry() {
    await opened(async (client) => {
      const [work, later] = [name('work'), name('later')];
      const parked = subscribe(client, `/queue/${later}`);
      const inbox = subscribe(client, `/queue/${work}`,
        { ack: 'client-individual', 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': later });
      await send(client, `/queue/${work}`, 'task');
      client.nack((await inbox.take()).message, { requeue: 'false' });
      const dead = await parked.take();
      assert.deepEqual([String(dead.body), dead.headers['x-first-death-reason']], ['task', 'rejected']);
    });
  },

  async function rpc() {
    await opened(async (client) => {
      const requests = queue();
      const inbox = subscribe(client, requests);
      const replies = new Inbox();
      client.setImplicitSubscription('/temp-queue/answers', 'auto', (_, message) => {
        message.readString('utf-8', (_, body) => replies.push(body));
      });
      await send(client, requests, '12', { 'reply-to': '/temp-queue/answers' });
      const request = await inbox.take();
      assert.match(request.headers['reply-to'], /^\/reply-queue\//);
      await send(client, request.headers['reply-to'], '144');
      assert.equal(await replies.take(), '144');
    });
  },

  async function priority() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = subscribe(client, destination,
        { ack: 'client-individual', 'x-max-priority': '5', 'prefetch-count': '1' });
      for (const number of [0, 1, 5, 3]) await send(client, destination, String(number), { priority: number });
      const bodies = [];
      for (let count = 0; count < 4; count++) {
        const { message, body } = await inbox.take();
        bodies.push(String(body));
        client.ack(message);
      }
      // The first one was out before the others came.
      assert.deepEqual(bodies, ['0', '5', '3', '1']);
    });
  },

  async function transaction() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = subscribe(client, destination);
      const never = client.begin();
      never.send({ destination }).end('never');
      never.abort();
      const comes = client.begin();
      comes.send({ destination }).end('comes');
      comes.commit();
      assert.equal(await text(inbox), 'comes');
    });
  },

  async function large() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = subscribe(client, destination);
      const body = randomBytes(3 << 20);
      await send(client, destination, body);
      assert.ok((await inbox.take()).body.equals(body));
    });
  },

  async function order() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = subscribe(client, destination, { ack: 'client', 'prefetch-count': '100' });
      for (let number = 0; number < 2000; number++) put(client, destination, String(number));
      for (let number = 0; number < 2000; number++) {
        const { message, body } = await inbox.take();
        assert.equal(String(body), String(number));
        client.ack(message);
      }
    });
  },

  async function heartbeat() {
    await opened(async (client) => {
      const destination = queue();
      const inbox = subscribe(client, destination);
      await sleep(3500);
      await send(client, destination, 'alive');
      assert.equal(await text(inbox), 'alive');
    }, { 'heart-beat': '1000,1000' });
  },

  async function reconnect() {
    await error((client) => put(client, '/nowhere/at-all', 'x'));
    await opened(() => {});
  },

  async function exclusive() {
    await opened(async (client) => {
      const destination = queue();
      subscribe(client, destination, { exclusive: 'true' });
      await send(client, destination, 'first');
      await error((other) => subscribe(other, destination, { exclusive: 'true' }));
    });
  },

  async function missing() {
    await error((client) => subscribe(client, `/amq/queue/${name('no')}`));
  },

  async function cancelled() { throw new Without('no other protocol deletes the queue here'); },

  async function blocked() { throw new Without('STOMP does not say so'); },
]);
