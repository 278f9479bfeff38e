// Runs a client's checks one after the other and prints a line for each, which `run` reads.
'use strict';
const { randomUUID } = require('node:crypto');

const url = process.env.AMQP_URL;
const SECONDS = 30;

// A name that no other check and no other run uses.
const name = (word) => `${word}-${randomUUID().slice(0, 13)}`;

// Thrown by a check whose client has no such thing.
class Without extends Error {}

// What is pushed can be taken in order, by who waits for it.
class Inbox {
  constructor() {
    this.items = [];
    this.waiting = [];
  }
  push(item) {
    const taker = this.waiting.shift();
    if (taker) taker(item);
    else this.items.push(item);
  }
  take() {
    return this.items.length ? Promise.resolve(this.items.shift()) : new Promise((taken) => this.waiting.push(taken));
  }
}

const sleep = (milliseconds) => new Promise((awake) => setTimeout(awake, milliseconds));

async function within(seconds, promise) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`nothing within ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// What a promise is refused with.
async function refusal(promise) {
  try {
    await promise;
  } catch (refused) {
    return refused;
  }
  throw new Error('it was not refused');
}

async function run(checks) {
  for (const check of checks) {
    try {
      await within(SECONDS, check());
      console.log('ok', check.name.replaceAll('_', '-'));
    } catch (failure) {
      if (failure instanceof Without) console.log(`without ${check.name}: ${failure.message}`);
      else {
        console.error(failure);
        console.log(`failed ${check.name.replaceAll('_', '-')}: ${failure.message}`);
      }
    }
  }
  process.exit();
}

// basic.qos with a prefetch size, as a frame of channel 1: amqplib itself sends nothing that a broker closes a connection for.
const FATAL_FRAME = Buffer.from('0100010000000b003c000a00000005000000ce', 'hex');

module.exports = { FATAL_FRAME, url, name, Without, Inbox, sleep, within, refusal, run };
