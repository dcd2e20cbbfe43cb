// Opens the same file in two functions, in one of them twice as often, when it is told to.
const fs = require('fs');
const kept = [];
function load(path) {
  return fs.openSync(path, 'r'); // [load]
}
function peek(path) {
  return fs.openSync(path, 'r'); // [peek]
}
console.log('ready');
process.stdin.once('data', () => {
  let turn = 0;
  const timer = setInterval(() => {
    kept.push(load('/proc/filesystems'), load('/proc/filesystems'), peek('/proc/filesystems'));
    turn += 1;
    if (turn === 40) {
      clearInterval(timer);
      console.log(kept.join(' '));
    }
  }, 25);
  process.stdin.on('end', () => process.exit(0));
});
