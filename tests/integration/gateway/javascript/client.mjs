// Starts a bot as a page does, with Pipecat's own client library, and tells what its Daily transport would join with.
// Where the packages are is the argument; standard input is {endpoint, token, request}: a token is in no argument.
import { text } from "node:stream/consumers";
import { createRequire } from "node:module";

const require = createRequire(`${process.argv[2]}/`);
// The library looks at what browser it is in, and writes to its console.
globalThis.window = globalThis;
console.debug = console.info = console.log = console.error;
const { PipecatClient, Transport } = require("@pipecat-ai/client-js");
const { DailyTransport } = require("@pipecat-ai/daily-transport");

let joined;

// A call needs a browser: all of it is left out but what the Daily transport makes of the answer.
class NoCall extends Transport {
  _validateConnectionParams = DailyTransport.prototype._validateConnectionParams;
  initialize() {}
  async initDevices() {}
  async _connect(params) {
    joined = params;
  }
  async _disconnect() {}
  sendReadyMessage() {
    process.stdout.write(JSON.stringify({ answer, joined }));
  }
}

const { endpoint, token, request } = JSON.parse(await text(process.stdin));
const client = new PipecatClient({ transport: new NoCall(), enableMic: false, enableCam: false });
const headers = new Headers({ Authorization: `Bearer ${token}` });
let answer;
try {
  const found = await client.startBot({ endpoint, headers, requestData: request });
  answer = structuredClone(found);
  // It resolves when a bot has said that it is ready: nobody waits for it.
  void client.connect(found);
} catch ({ message, status }) {
  process.stdout.write(JSON.stringify({ error: { message, status } }));
}
