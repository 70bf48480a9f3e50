// Two videos over each other: the upper one is cut off at the border, and follows the lower one's clock.
let shown = '';
const part = (name) => element.querySelector('.' + name);

function place() {
  const at = Number(part('place').value);
  part('before').style.clipPath = `inset(0 ${100 - at}% 0 0)`;
  part('line').style.left = at + '%';
}

function follow() {
  const [after, before] = [part('after'), part('before')];
  before.playbackRate = after.playbackRate;
  if (Math.abs(before.currentTime - after.currentTime) > 0.05) before.currentTime = after.currentTime;
  if (after.paused) before.pause();
  else if (before.paused && !before.ended) before.play().catch(() => {});
}

function open() {
  const root = part('swipe');
  if (!root || !root.dataset.after || shown === root.dataset.after) return;
  shown = root.dataset.after;
  const [after, before] = [part('after'), part('before')];
  before.onerror = () => {
    before.style.display = part('line').style.display = part('left').style.display = 'none';
    part('note').textContent = 'This browser cannot play the original, so only the result is shown.';
  };
  for (const event of ['play', 'pause', 'seeked', 'timeupdate', 'ratechange']) after.addEventListener(event, follow);
  after.addEventListener('play', () => { part('play').textContent = 'Pause'; });
  after.addEventListener('pause', () => { part('play').textContent = 'Play'; });
  part('play').onclick = () => { if (after.paused) after.play(); else after.pause(); };
  part('speed').onchange = () => { after.playbackRate = Number(part('speed').value); };
  part('place').oninput = place;
  part('screen').onpointermove = (event) => {
    if (event.pointerType === 'mouse' && !event.buttons) return;
    const box = part('screen').getBoundingClientRect();
    part('place').value = (100 * (event.clientX - box.left)) / box.width;
    place();
  };
  const base = window.gradio_config && window.gradio_config.root ? window.gradio_config.root : '';
  before.src = base + root.dataset.before;
  after.src = base + root.dataset.after;
  place();
  after.play().catch(() => {});
}

watch(['value', 'before', 'after'], open);
open();
