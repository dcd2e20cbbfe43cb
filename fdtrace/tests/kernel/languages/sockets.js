// Connects on a timer and forgets every socket, until there is no room; says what it held.
const net = require('net');
const [host, port] = process.argv[2].split(':');
const kept = [];
console.log('ready', process.pid);
process.stdin.once('data', () => {
  const start = process.hrtime.bigint();
  const timer = setInterval(() => {
    const socket = net.connect(Number(port), host);
    kept.push(socket);
    socket.on('error', (error) => {
      if (error.code !== 'EMFILE') throw error;
      clearInterval(timer);
      const count = kept.length - 1;
      console.log(JSON.stringify({
        pid: process.pid, tid: process.pid, comm: '', call: 'socket', failures: 1, soft: 200, used: 200,
        operations: count, ns: Number(process.hrtime.bigint() - start),
        holder: { kind: 'tcp', target: process.argv[2], count },
      }));
    });
  }, 50);
  process.stdin.on('end', () => process.exit(0));
});
