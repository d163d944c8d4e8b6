// A duplicated browser tab copies sessionStorage, and two tabs must not fight over one session.

const CHANNEL = 'chatroom.tabs';
const ANSWER_MS = 120;

/**
 * Claims the remembered session for this tab. False when another tab of this browser is using it; then it is
 * forgotten here, and the other one keeps it.
 */
export async function claimTab(memory) {
  if (typeof BroadcastChannel !== 'function') return true;
  const channel = new BroadcastChannel(CHANNEL);
  const { tab } = memory.record;
  const taken = tab !== '' && (await isInUse(channel, tab));
  if (taken) memory.clear();
  const own = taken || tab === '' ? newName() : tab;
  memory.update({ tab: own });
  channel.onmessage = ({ data }) => {
    if (data?.ask === own) channel.postMessage({ inUse: own });
  };
  return !taken;
}

function isInUse(channel, tab) {
  return new Promise((resolve) => {
    channel.onmessage = ({ data }) => {
      if (data?.inUse === tab) resolve(true);
    };
    channel.postMessage({ ask: tab });
    setTimeout(() => resolve(false), ANSWER_MS);
  });
}

function newName() {
  return Math.random().toString(36).slice(2);
}
