-- Says that a worker lives, and prolongs the leases that it still owns.
-- KEYS  1 the queue   2 the live workers (sorted set: worker id -> Unix ms until which it counts as alive)
-- ARGV  1 worker id   2 lease in ms   3 ms that an owner is remembered   then for each run: job id, owner
-- Returns the job ids whose lease is lost.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZADD', KEYS[2], now + 2 * ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)

local lost = {}
for i = 4, #ARGV, 2 do
  local holder = 'arq:in-progress:' .. ARGV[i]
  if redis.call('GET', holder) == ARGV[i + 1] then
    redis.call('PEXPIRE', holder, ARGV[3])
    redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[i])
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
