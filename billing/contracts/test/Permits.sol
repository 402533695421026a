// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

import {Test} from "./Test.sol";

/// @dev Somebody who signs approvals. Source: EIP-2612.
abstract contract Permits is Test {
    uint256 private constant KEY = 0xC0FFEE;

    function signer() internal pure returns (address) {
        return vm.addr(KEY);
    }

    function permit(ERC20Permit of_, address spender, uint256 amount, uint256 deadline)
        internal
        view
        returns (uint8, bytes32, bytes32)
    {
        bytes32 kind = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 content = keccak256(abi.encode(kind, signer(), spender, amount, of_.nonces(signer()), deadline));
        return vm.sign(KEY, keccak256(abi.encodePacked("\x19\x01", of_.DOMAIN_SEPARATOR(), content)));
    }
}
