-- A node's sign of life: its counter rises. Clocks of this server are not asked: who watches measures by its own.
-- KEYS: nodes.  ARGV: this node, the leader it takes over from ('-' for nobody, '' to take over from none),
-- then nodes that are over.
-- Gives: the leader, then each node and its counter.
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
local leader = redis.call('HGET', KEYS[1], 'leader') or ''
if leader == ARGV[2] then
  leader = ARGV[1]
  redis.call('HSET', KEYS[1], 'leader', leader)
end
for i = 3, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
local nodes = redis.call('HGETALL', KEYS[1])
table.insert(nodes, 1, leader)
return nodes
