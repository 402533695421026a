// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {
    AccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

/**
 * @dev Escrow of NTC that pays device owners, one transaction per epoch however many they are.
 *
 * Anyone deposits NTC for an account. Each epoch the operator settles two Merkle roots: `payoutRoot` over
 * `(account, cumulative)`, where `cumulative` is everything the account has ever earned here, and `usageRoot` over the
 * hashes of the usage statements behind it. After `claimDelay` the epoch is claimable, unless a guardian vetoed it
 * before. A claim pays the cumulative amount minus what the account was paid already, so the same earnings can never be
 * paid twice, whichever epoch proves them, in whatever order, by whomever it is sent.
 *
 * Both trees are those of OpenZeppelin's StandardMerkleTree: leaves are hashed twice, pairs are sorted.
 *
 * Roles: the operator settles, guardians veto, the default admin appoints both and can do neither. The admin is handed
 * over in two steps. NTC leaves this contract by {claim} alone.
 */
contract Settlement is AccessControlDefaultAdminRules {
    using SafeERC20 for IERC20;

    /// @dev What an epoch adds up to. Amounts are in base units.
    struct Totals {
        uint128 cumulative; // sum of all leaves of the payout tree
        uint64 accounts; // number of leaves of the payout tree
        uint64 statements; // number of leaves of the usage tree
    }

    struct Epoch {
        bytes32 payoutRoot;
        bytes32 usageRoot;
        uint64 claimableAt; // 0: this epoch is not settled yet
        bool vetoed;
    }

    event Deposited(address indexed account, address indexed payer, uint256 amount);
    event Settled(uint256 indexed epoch, bytes32 payoutRoot, bytes32 usageRoot, uint256 claimableAt, Totals totals);
    event Vetoed(uint256 indexed epoch, address indexed guardian);
    event Claimed(address indexed account, uint256 indexed epoch, uint256 amount, uint256 cumulative);

    /// @dev Epochs are settled in order, each once; `expected` is the next.
    error SettlementUnexpectedEpoch(uint256 epoch, uint256 expected);

    /// @dev The payout tree promises more than was ever deposited.
    error SettlementUnderfunded(uint256 cumulative, uint256 deposited);

    /// @dev The epoch is not settled.
    error SettlementUnknownEpoch(uint256 epoch);

    /// @dev The epoch was vetoed.
    error SettlementVetoedEpoch(uint256 epoch);

    /// @dev The time for a veto is over.
    error SettlementVetoTooLate(uint256 epoch, uint256 claimableAt);

    /// @dev The time for a veto is not over yet.
    error SettlementNotClaimableYet(uint256 epoch, uint256 claimableAt);

    /// @dev The proof does not lead to the epoch's payout root.
    error SettlementInvalidProof(address account, uint256 cumulative);

    /// @dev The account was already paid this much or more.
    error SettlementNothingToClaim(address account, uint256 cumulative, uint256 paid);

    /// @dev A deposit of nothing, or for nobody.
    error SettlementInvalidDeposit(address account, uint256 amount);

    /// @dev The delay is longer than {MAX_CLAIM_DELAY}.
    error SettlementInvalidDelay(uint256 claimDelay);

    bytes32 public constant OPERATOR_ROLE = keccak256("OPERATOR_ROLE");
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");

    /// @dev Seconds between naming a new default admin and the earliest acceptance.
    uint48 public constant ADMIN_TRANSFER_DELAY = 3 days;

    /// @dev The longest `claimDelay`, in seconds, so that a typing error cannot lock earnings away.
    uint64 public constant MAX_CLAIM_DELAY = 30 days;

    IERC20 public immutable token;

    /// @dev Seconds a guardian has to veto an epoch.
    uint64 public immutable claimDelay;

    /// @dev The number the next {settle} must carry. The first is 1.
    uint256 public nextEpoch = 1;

    /// @dev Base units ever deposited, and ever paid out. Paid never exceeds deposited.
    uint256 public totalDeposited;
    uint256 public totalPaid;

    mapping(address account => uint256) public deposited;
    mapping(address account => uint256) public paid;
    mapping(uint256 epoch => Epoch) private _epochs;

    /// @dev `operator` and `guardian` get their roles; `admin` may change them later.
    constructor(IERC20 token_, uint64 claimDelay_, address admin, address operator, address guardian)
        AccessControlDefaultAdminRules(ADMIN_TRANSFER_DELAY, admin)
    {
        if (claimDelay_ > MAX_CLAIM_DELAY) {
            revert SettlementInvalidDelay(claimDelay_);
        }
        token = token_;
        claimDelay = claimDelay_;
        _grantRole(OPERATOR_ROLE, operator);
        _grantRole(GUARDIAN_ROLE, guardian);
    }

    /// @dev What was settled for an epoch; all zero when nothing was.
    function epochs(uint256 epoch) external view returns (Epoch memory) {
        return _epochs[epoch];
    }

    /// @dev Whether claims can name this epoch now.
    function isClaimable(uint256 epoch) external view returns (bool) {
        Epoch storage settled = _epochs[epoch];
        return settled.claimableAt != 0 && !settled.vetoed && block.timestamp >= settled.claimableAt;
    }

    /// @dev Takes `amount` from the caller, who approved it before, and credits it to `account`.
    function deposit(address account, uint256 amount) external {
        _deposit(account, amount);
    }

    /**
     * @dev Like {deposit}, with the approval as a signature of the caller.
     *
     * The permit's failure is ignored: somebody may have sent the same signature first, which leaves the approval in
     * place. Without an approval the transfer fails.
     */
    function depositWithPermit(address account, uint256 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        try IERC20Permit(address(token)).permit(msg.sender, address(this), amount, deadline, v, r, s) {} catch {}
        _deposit(account, amount);
    }

    /**
     * @dev Settles an epoch. It becomes claimable `claimDelay` seconds later.
     *
     * Requirements: the caller is the operator; `epoch` is {nextEpoch}; deposits cover `totals.cumulative`.
     */
    function settle(uint256 epoch, bytes32 payoutRoot, bytes32 usageRoot, Totals calldata totals)
        external
        onlyRole(OPERATOR_ROLE)
    {
        if (epoch != nextEpoch) {
            revert SettlementUnexpectedEpoch(epoch, nextEpoch);
        }
        if (totals.cumulative > totalDeposited) {
            revert SettlementUnderfunded(totals.cumulative, totalDeposited);
        }
        uint64 claimableAt = uint64(block.timestamp) + claimDelay;
        nextEpoch = epoch + 1;
        _epochs[epoch] = Epoch({payoutRoot: payoutRoot, usageRoot: usageRoot, claimableAt: claimableAt, vetoed: false});
        emit Settled(epoch, payoutRoot, usageRoot, claimableAt, totals);
    }

    /**
     * @dev Refuses an epoch and every later one, because their cumulative amounts build on it.
     *
     * Requirements: the caller is a guardian; the epoch is settled, not vetoed and not yet claimable.
     */
    function veto(uint256 epoch) external onlyRole(GUARDIAN_ROLE) {
        Epoch storage first = _settled(epoch);
        if (block.timestamp >= first.claimableAt) {
            revert SettlementVetoTooLate(epoch, first.claimableAt);
        }
        for (uint256 later = epoch; later < nextEpoch; ++later) {
            if (!_epochs[later].vetoed) {
                _epochs[later].vetoed = true;
                emit Vetoed(later, msg.sender);
            }
        }
    }

    /**
     * @dev Pays `account` what it has earned up to `epoch` and was not paid yet. Anyone may send it; the NTC goes to
     * the account.
     *
     * Requirements: the epoch is claimable; `proof` shows `(account, cumulative)` under its payout root; there is
     * something to pay.
     */
    function claim(uint256 epoch, address account, uint256 cumulative, bytes32[] calldata proof)
        external
        returns (uint256 amount)
    {
        Epoch storage settled = _settled(epoch);
        if (block.timestamp < settled.claimableAt) {
            revert SettlementNotClaimableYet(epoch, settled.claimableAt);
        }
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
        if (!MerkleProof.verifyCalldata(proof, settled.payoutRoot, leaf)) {
            revert SettlementInvalidProof(account, cumulative);
        }
        uint256 before = paid[account];
        if (cumulative <= before) {
            revert SettlementNothingToClaim(account, cumulative, before);
        }
        amount = cumulative - before;
        if (totalPaid + amount > totalDeposited) {
            revert SettlementUnderfunded(totalPaid + amount, totalDeposited);
        }
        paid[account] = cumulative;
        totalPaid += amount;
        emit Claimed(account, epoch, amount, cumulative);
        token.safeTransfer(account, amount);
    }

    function _deposit(address account, uint256 amount) private {
        if (account == address(0) || amount == 0) {
            revert SettlementInvalidDeposit(account, amount);
        }
        deposited[account] += amount;
        totalDeposited += amount;
        emit Deposited(account, msg.sender, amount);
        token.safeTransferFrom(msg.sender, address(this), amount);
    }

    /// @dev Returns a settled epoch that was not vetoed.
    function _settled(uint256 epoch) private view returns (Epoch storage settled) {
        settled = _epochs[epoch];
        if (settled.claimableAt == 0) {
            revert SettlementUnknownEpoch(epoch);
        }
        if (settled.vetoed) {
            revert SettlementVetoedEpoch(epoch);
        }
    }
}
