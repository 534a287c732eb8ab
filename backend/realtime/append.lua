-- Puts events at the end of one user's feed, in order, each once, and tells whoever listens.
-- Offsets come from PostgreSQL: an offset that is there is ignored, one beyond the next is a gap and ends the call.
--
-- KEYS: head, log
-- ARGV: channel, most events, life of an event (ms), life of the head (ms), fresh epoch, rebase ('1' or ''),
--       then offset, event, offset, event, ...
-- Returns {1, epoch, top}, or {0, epoch, top} where a gap ended it.

local HEADER = 6
local head = redis.call('HMGET', KEYS[1], 'epoch', 'top')
local epoch, top = head[1], tonumber(head[2] or '')
local first = tonumber(ARGV[HEADER + 1])

if not epoch or (ARGV[6] == '1' and first > top + 1) then
  epoch, top = ARGV[5], first - 1
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'top', top, 'run', run)
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local whole, message = 1, {epoch}
for at = HEADER + 1, #ARGV, 2 do
  local offset = tonumber(ARGV[at])
  if offset > top + 1 then
    whole = 0
    break
  end
  if offset == top + 1 then
    redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[2], ARGV[at] .. '-0', 't', now, 'e', ARGV[at + 1])
    top = offset
    if #message == 1 then
      message[2] = ARGV[at]
    end
    message[#message + 1] = ARGV[at + 1]
  end
end

if #message > 1 then
  redis.call('HSET', KEYS[1], 'top', top)
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
  local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  while oldest and tonumber(oldest[2][2]) + ARGV[3] < now do
    redis.call('XDEL', KEYS[2], oldest[1])
    oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  end
  redis.call('PUBLISH', ARGV[1], table.concat(message, '\n'))
end
return {whole, epoch, top}
