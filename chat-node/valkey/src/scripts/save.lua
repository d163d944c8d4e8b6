-- Puts a snapshot that was uploaded in force, and lets go of what it makes needless; or changes nothing.
-- KEYS: head, log, set of the keys in use.  ARGV: lineage, index, key of the snapshot, keys of its chunks.
local head = redis.call('HMGET', KEYS[1], 'lineage', 'last', 'snapshot')
if head[1] ~= ARGV[1] then
  return redis.error_reply('LINEAGE ' .. tostring(head[1]))
end
if tonumber(head[3]) >= tonumber(ARGV[2]) then
  return redis.error_reply('NOTNEWER ' .. head[3])
end
if tonumber(head[2]) < tonumber(ARGV[2]) then
  return redis.error_reply('NOTYET ' .. head[2])
end
local wanted = {}
for i = 3, #ARGV do
  if redis.call('EXISTS', ARGV[i]) == 0 then
    return redis.error_reply('MISSING ' .. ARGV[i])
  end
  wanted[ARGV[i]] = true
end
for i = 3, #ARGV do
  redis.call('PERSIST', ARGV[i])
  redis.call('SADD', KEYS[3], ARGV[i])
end
for _, key in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  if not wanted[key] then
    redis.call('UNLINK', key)
    redis.call('SREM', KEYS[3], key)
  end
end
-- Who lags by less than one snapshot still finds its entries, and the newest entry is always there to compare with.
redis.call('XTRIM', KEYS[2], 'MINID', head[3] .. '-0')
redis.call('HSET', KEYS[1], 'snapshot', ARGV[2], 'snapshotKey', ARGV[3])
return ARGV[2]
