// Every word of the page, Korean first. A word may be a function of its figures.

const WORDS = {
  ko: {
    skip: "본문으로 건너뛰기",
    person: "이용자",
    language: "English",
    title: "흩어진 금융, 한 번에 모아요",
    lead: "기관을 고르고 한 번만 서명하면, 자산이 도착하는 대로 바로 보여 드려요.",
    choose: "연결할 기관",
    all: "전체 선택",
    none: "선택 해제",
    connect: (n) => (n ? `${n}곳 모두 연결하기` : "기관을 골라 주세요"),
    cancel: "취소",
    retry: "실패한 곳 다시 시도",
    again: "다른 기관 연결하기",
    signTitle: "전자서명을 기다리고 있어요",
    signLead: (time) => `인증기관 화면에서 서명해 주세요. ${time}까지 유효해요.`,
    sign: "서명하러 가기",
    sums: "모아 보기",
    invented: "모든 사람, 기관, 계좌는 지어낸 것입니다.",
    tokenTitle: "접속 토큰이 필요해요",
    tokenLead: "이 서버는 데모 토큰을 주지 않아요. 발급받은 JWT를 넣어 주세요. 이 탭의 메모리에만 둡니다.",
    tokenLabel: "JWT",
    tokenUse: "사용하기",
    industry: { bank: "은행", card: "카드", invest: "투자", insu: "보험", efin: "전자금융", capital: "대출", telecom: "통신" },
    status: {
      waiting: "대기", connecting: "연결 중", collecting: "가져오는 중", completed: "완료",
      failed: "실패", deferred: "나중에 다시", cancelled: "취소됨",
    },
    run: {
      sending: "요청하고 있어요",
      signing: "전자서명을 진행하고 있어요",
      collecting: (done, all) => `자산을 모으고 있어요 · ${done}/${all}`,
      completed: (n) => `모두 모았어요 · 자산 ${n}개`,
      partial: (done, all) => `${all}곳 중 ${done}곳을 모았어요`,
      failed: "연결하지 못했어요",
      expired: "서명 시간이 지났어요",
      denied: "서명을 거절하셨어요",
      cancelled: "취소했어요",
    },
    timing: { accepted: "접수", signed: "전자서명", first: "첫 자산", last: "마지막 기관" },
    timingNote: { accepted: "요청부터 응답까지", signed: "접수부터 서명까지", first: "서명부터", last: "서명부터" },
    assets: (n) => `자산 ${n}개`,
    more: (n) => `${n}개 더 보기`,
    noAssets: "가진 자산이 없어요",
    deferred: (time) => (time ? `기관이 쉬고 있어요. ${time}쯤 저절로 다시 시도해요.` : "기관이 쉬고 있어요. 저절로 다시 시도해요."),
    error: (error) => error.title,
    action: {
      retry: "잠시 뒤 다시 시도해 주세요.", wait: "저절로 다시 시도해요.",
      sign_again: "다시 시도하면 서명을 새로 받아요.", contact_provider: "기관에 문의해 주세요.",
    },
    saidCompleted: (name, n) => `${name} 완료, 자산 ${n}개`,
    saidFailed: (name, why) => `${name} 실패, ${why}`,
    line: {
      off: "연결 안 됨", connecting: "연결하는 중",
      websocket: "WebSocket으로 실시간 수신 중", sse: "SSE로 실시간 수신 중", poll: "폴링으로 수신 중",
    },
    group: { home: "내 자산", spending: "매달 나가는 돈", payment: "결제 수단", loans: "대출" },
    groupNote: {
      home: "예금, 투자, 연금, 선불 잔액", spending: "보험료와 통신 요금", payment: "카드, 간편결제, 포인트", loans: "남은 원금",
    },
    kind: {
      deposit: "예금", investment: "투자", loan: "대출", pension: "연금", card: "카드", point: "포인트",
      prepaid: "선불", paid: "간편결제", insurance: "보험", telecom: "통신",
    },
    count: (n) => `${n}개`,
    net: (sum) => `대출을 빼면 ${sum}`,
    nothingHere: "아직 없어요",
    monthly: (sum) => `월 ${sum}`,
    points: (n) => `${n} P`,
    trouble: {
      unreachable: "서버에 연결할 수 없어요. 잠시 뒤 다시 시도해 주세요.",
      token_expired: "토큰이 만료되었어요.", token_invalid: "토큰을 쓸 수 없어요.", unauthenticated: "토큰이 필요해요.",
      rate_limited: "요청이 너무 많아요. 잠시 뒤 다시 시도해 주세요.",
      engine_unavailable: "잠시 쉬고 있어요. 곧 다시 시도해 주세요.", shutting_down: "서버가 다시 시작하고 있어요. 곧 다시 시도해 주세요.",
      nothing_to_cancel: "취소할 것이 없어요.", nothing_to_retry: "다시 시도할 것이 없어요.",
      unknown_provider: "없는 기관이 있어요. 다시 골라 주세요.", validation_failed: "고른 기관을 확인해 주세요.",
      scope_missing: "이 토큰으로는 할 수 없어요.",
    },
    otherTrouble: "요청을 처리하지 못했어요.",
  },
  en: {
    skip: "Skip to content",
    person: "Person",
    language: "한국어",
    title: "Your scattered finances, together at once",
    lead: "Choose institutions, sign once, and see each result the moment it arrives.",
    choose: "Institutions to connect",
    all: "Select all",
    none: "Clear",
    connect: (n) => (n ? `Connect all ${n}` : "Choose an institution"),
    cancel: "Cancel",
    retry: "Retry what failed",
    again: "Connect others",
    signTitle: "Waiting for your signature",
    signLead: (time) => `Sign on the page of the certification authority, before ${time}.`,
    sign: "Sign now",
    sums: "Together",
    invented: "All people, institutions and accounts are invented.",
    tokenTitle: "An access token is needed",
    tokenLead: "This server hands out no demo token. Paste a JWT of yours; it stays in this tab's memory.",
    tokenLabel: "JWT",
    tokenUse: "Use it",
    industry: { bank: "Banks", card: "Cards", invest: "Securities", insu: "Insurance", efin: "E-money", capital: "Loans", telecom: "Telecoms" },
    status: {
      waiting: "Waiting", connecting: "Connecting", collecting: "Collecting", completed: "Done",
      failed: "Failed", deferred: "Later", cancelled: "Cancelled",
    },
    run: {
      sending: "Sending the request",
      signing: "Getting the signature",
      collecting: (done, all) => `Gathering your assets · ${done}/${all}`,
      completed: (n) => `All gathered · ${n} ${n === 1 ? "asset" : "assets"}`,
      partial: (done, all) => `${done} of ${all} gathered`,
      failed: "Nothing could be connected",
      expired: "Nobody signed in time",
      denied: "You declined the signature",
      cancelled: "Cancelled",
    },
    timing: { accepted: "Accepted", signed: "Signature", first: "First asset", last: "Last institution" },
    timingNote: { accepted: "request to answer", signed: "after that", first: "after the signature", last: "after the signature" },
    assets: (n) => `${n} ${n === 1 ? "asset" : "assets"}`,
    more: (n) => `${n} more`,
    noAssets: "Nothing held here",
    deferred: (time) => (time ? `It is resting, and tried again by itself at about ${time}.` : "It is resting, and tried again by itself."),
    error: (error) => error.detail || error.title,
    action: { retry: "", wait: "", sign_again: "Retry to sign once more.", contact_provider: "" },
    saidCompleted: (name, n) => `${name} done, ${n} ${n === 1 ? "asset" : "assets"}`,
    saidFailed: (name, why) => `${name} failed, ${why}`,
    line: {
      off: "Not connected", connecting: "Connecting",
      websocket: "Live over WebSocket", sse: "Live over SSE", poll: "Following by polls",
    },
    group: { home: "What you have", spending: "Each month", payment: "Payment methods", loans: "Loans" },
    groupNote: {
      home: "deposits, investments, pensions, prepaid", spending: "premiums and phone bills", payment: "cards, payment accounts, points",
      loans: "still owed",
    },
    kind: {
      deposit: "Deposits", investment: "Investments", loan: "Loans", pension: "Pensions", card: "Cards", point: "Points",
      prepaid: "Prepaid", paid: "Payment accounts", insurance: "Insurance", telecom: "Telecom",
    },
    count: (n) => `${n}`,
    net: (sum) => `${sum} after loans`,
    nothingHere: "Nothing yet",
    monthly: (sum) => `${sum} a month`,
    points: (n) => `${n} P`,
    trouble: {
      unreachable: "The server cannot be reached. Try again shortly.",
      token_expired: "The token has expired.", token_invalid: "The token is not valid.", unauthenticated: "A token is needed.",
    },
    otherTrouble: "",
  },
};

const LOCALES = { ko: "ko-KR", en: "en-GB" };
let language = "ko";

export function words() {
  return WORDS[language];
}

export function currentLanguage() {
  return language;
}

/** Korean for anything that is not `en`. */
export function speak(wanted) {
  language = wanted === "en" ? "en" : "ko";
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = words()[node.dataset.word];
}

export function clockTime(iso) {
  const moment = new Date(iso);
  return Number.isNaN(moment.getTime()) ? "" : moment.toLocaleTimeString(LOCALES[language], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function figure(value) {
  return new Intl.NumberFormat(LOCALES[language], { maximumFractionDigits: 2 }).format(Number(value));
}

/** `amount` is a decimal string. */
export function money(amount, currency) {
  try {
    return new Intl.NumberFormat(LOCALES[language], { style: "currency", currency, currencyDisplay: "narrowSymbol" }).format(Number(amount));
  } catch {
    return `${figure(amount)} ${currency}`; // a currency that the browser does not know
  }
}

export function duration(ms) {
  return ms < 10_000 ? `${Math.round(ms).toLocaleString(LOCALES[language])} ms` : `${figure((ms / 1000).toFixed(1))} s`;
}

/** What went wrong with a request: by its code, else the server's own words. */
export function troubleWords(trouble) {
  return words().trouble[trouble.code] || words().otherTrouble || trouble.detail || trouble.code;
}
